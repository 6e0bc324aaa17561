"""What the commands on a database share: how long they wait for it, how they open it, how they end on an error."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

from erp_service import errors
from erp_service.commands.terminal import say
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS, constraint_of
from erp_service.observability import telemetry
from erp_service.observability.exception_text import reason
from erp_service.settings import Settings, SettingsError

WAIT_SECONDS = 300.0
"""How long a process that is started by a machine waits for the database: longer than a server takes to recover from a
crash."""

SHORT_WAIT_SECONDS = 20.0
"""The same for a command that a person waits for: long enough for a slow name server, or for a server that restarts."""


@asynccontextmanager
async def open_database(settings: Settings, name: str) -> AsyncIterator[Database]:
    """A database that is closed at the end. `name` is the application name of its connections in Postgres."""
    database = Database(settings, name=name)
    try:
        yield database
    finally:
        await database.close()


@contextmanager
def exit_on_error(*kinds: type[Exception]) -> Iterator[None]:
    """Errors that are no bug end the command with one clear message and status 1, and no stack trace.

    They are wrong settings, what a rule of the service refuses, a database that cannot be used, and `kinds`, which are
    the command's own."""
    messages: tuple[type[Exception], ...] = (SettingsError, *kinds)
    telemetry.configure_for_command()
    try:
        yield
    except messages as exc:
        say(f"erp: {exc}")
        sys.exit(1)
    except errors.Refused as exc:
        _exit_refused(exc)
    except DATABASE_ERRORS as exc:
        # a rule that the database enforces has the same meaning here as over HTTP
        if (refusal := errors.meaning_of(constraint_of(exc))) is not None:
            _exit_refused(refusal)
        say(f"erp: the database cannot be used: {reason(exc) or 'it does not answer'}")
        sys.exit(1)


def _exit_refused(refusal: errors.Refused) -> NoReturn:
    faults = "".join(f"\n  {fault.detail}" for fault in refusal.faults)
    say(f"erp: {refusal.detail or refusal.title}{faults}")
    sys.exit(1)
