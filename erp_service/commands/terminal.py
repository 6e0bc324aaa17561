"""Messages of the commands for people, on standard error, because standard output may be a pipe."""

import sys

import click


def say(text: str) -> None:
    click.echo(text, err=True)


def entered_password(*, confirm: bool) -> str:
    """The password from a prompt on a terminal, otherwise the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))
    return sys.stdin.readline().rstrip("\r\n")
