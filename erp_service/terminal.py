"""How commands speak to people: on standard error, so that output can go into a pipe."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import click
from sqlalchemy.exc import SQLAlchemyError

from erp_service import client, errors, up
from erp_service.embedded import EmbeddedFailed
from erp_service.inventory.records import ImportRefused
from erp_service.settings import SettingsError

_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError)


def say(text: str) -> None:
    click.echo(text, err=True)


def entered_password(*, confirm: bool) -> str:
    """Asked for on a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))
    return sys.stdin.readline().rstrip("\r\n")


@contextmanager
def told() -> Iterator[None]:
    """What a person can cause ends in one clear message and status 1, with no stack trace."""
    try:
        yield
    except (SettingsError, EmbeddedFailed, up.CannotStart, client.ClientError, ImportRefused) as exc:
        say(f"erp: {exc}")
        sys.exit(1)
    except errors.Refused as exc:
        faults = "".join(f"\n  {fault.detail}" for fault in exc.faults)
        say(f"erp: {exc.detail or exc.title}{faults}")
        sys.exit(1)
    except _AWAY as exc:
        say(f"erp: the database cannot be used: {exc}")
        sys.exit(1)
