"""Messages of the commands for people, on standard error, because standard output may be a pipe."""

import os
import sys
from typing import NoReturn

import click

FAILED, FAULT, INTERRUPTED, PIPE_CLOSED = 1, 70, 130, 141
"""Exit statuses of all commands. 70 is EX_SOFTWARE of sysexits.h; the last two are what a shell shows of a process that
SIGINT or SIGPIPE ended."""


def say(text: str) -> None:
    click.echo(text, err=True)


def exit_with(status: int, message: str) -> NoReturn:
    say(f"erp: {message}")
    sys.exit(status)


def silence_stdout() -> None:
    """For a standard output that nobody reads any more: Python would report that a second time when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def entered_password(*, confirm: bool) -> str:
    """The password from a prompt on a terminal, otherwise the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))
    if not (line := sys.stdin.readline()):
        raise click.UsageError("There is no password on standard input, and no terminal to ask for it.")
    return line.rstrip("\r\n")


def entered_code() -> str:
    """The code of a second factor, likewise."""
    if sys.stdin.isatty():
        return str(click.prompt("Code of the second factor", err=True))
    if not (line := sys.stdin.readline()):
        raise click.UsageError("There is no code of the second factor on standard input, after the password.")
    return line.strip()


class WholeSentences(click.Group):
    """Lists its commands with whole sentences: click cuts each of them to one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Click calls this for `--help`."""
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in sorted(self.commands.items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
