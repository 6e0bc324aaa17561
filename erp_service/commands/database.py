"""What the commands on a database share: how long they wait for it, how they open it, how they end on an error."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NoReturn

from erp_service import errors
from erp_service.commands.terminal import FAILED, exit_with, say
from erp_service.db.connections import wait_and_tell
from erp_service.db.engine import Database
from erp_service.db.outages import (
    DATABASE_ERRORS,
    INSUFFICIENT_PRIVILEGE,
    UNDEFINED_TABLE,
    constraint_of,
    is_unavailable,
    sqlstate_of,
)
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


async def wait_for_database(url: str, *, seconds: float) -> None:
    """Return when the database takes connections; says at once that it does not, and for how long it is tried."""

    def tell(exc: BaseException) -> None:
        say(f"The database does not answer ({_cause(exc)}). Trying again, for {seconds:.0f} s at most.")

    await wait_and_tell(url, tell, seconds=seconds)


@contextmanager
def exit_on_error(*kinds: type[Exception]) -> Iterator[None]:
    """Errors that are no bug end the command with one clear message and status 1, and no stack trace.

    They are wrong settings, what a rule of the service refuses, files and a database that cannot be used, and `kinds`,
    which are the command's own. cli.py ends what is interrupted, and what writes into a closed pipe."""
    messages: tuple[type[Exception], ...] = (SettingsError, *kinds)
    telemetry.configure_for_command()
    try:
        yield
    except messages as exc:
        hint = ""
        if isinstance(exc, SettingsError) and _UP.exists() and "ERP_DATABASE_URL" in str(exc):
            hint = f"\nThat of `erp up` in this directory: set -a; . {_UP}; set +a"
        exit_with(FAILED, f"{exc}{hint}")
    except errors.Refused as exc:
        _exit_refused(exc)
    except BrokenPipeError:
        raise
    except DATABASE_ERRORS as exc:
        if isinstance(exc, OSError) and exc.filename is not None:
            # the errors of connections name no file: see connections.as_connection_error
            exit_with(FAILED, f"cannot use {exc.filename}: {exc.strerror}")
        # a rule that the database enforces has the same meaning here as over HTTP
        if (refusal := errors.meaning_of(constraint_of(exc))) is not None:
            _exit_refused(refusal)
        hint = ""
        if sqlstate_of(exc) == UNDEFINED_TABLE:
            hint = " The database may lack its tables, or some of them: `erp migrate` brings them."
        elif sqlstate_of(exc) == INSUFFICIENT_PRIVILEGE:
            hint = (
                " That takes another user: ERP_MIGRATION_DATABASE_URL is the owner's address, which `erp migrate` uses;"
                " all other commands use ERP_DATABASE_URL, and what writes needs the rights of erp_api."
            )
        elif is_unavailable(exc):
            hint = " ERP_DATABASE_URL says where it is."
        exit_with(FAILED, f"the database cannot be used: {_cause(exc)}.{hint}")


_UP = Path(".erp/env")
"""What `erp up` writes for the other commands, in its default data directory."""


def _exit_refused(refusal: errors.Refused) -> NoReturn:
    faults = "".join(f"\n  {fault.detail}" for fault in refusal.faults)
    exit_with(FAILED, f"{refusal.detail or refusal.title}{faults}")


def _cause(exc: BaseException) -> str:
    return reason(exc).rstrip(".") or "it does not answer"
