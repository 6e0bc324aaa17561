"""How commands speak to people: on standard error, so that output can go into a pipe."""

import sys

import click


def say(text: str) -> None:
    click.echo(text, err=True)


def entered_password(*, confirm: bool) -> str:
    """Asked for on a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))
    return sys.stdin.readline().rstrip("\r\n")
