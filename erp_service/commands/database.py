"""What the commands on a database share: how long they wait for it, how they open it, how they end on an error."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from erp_service import errors
from erp_service.commands.terminal import say
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
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
    try:
        yield
    except messages as exc:
        say(f"erp: {exc}")
        sys.exit(1)
    except errors.Refused as exc:
        faults = "".join(f"\n  {fault.detail}" for fault in exc.faults)
        say(f"erp: {exc.detail or exc.title}{faults}")
        sys.exit(1)
    except DATABASE_ERRORS as exc:
        # SQLAlchemy's own text goes on with the statement and an address
        why = str(getattr(exc, "orig", None) or exc) or "it does not answer"
        say(f"erp: the database cannot be used: {why}")
        sys.exit(1)
