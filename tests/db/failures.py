"""The ways in which a database, or the way to it, fails, as asyncpg and psycopg raise them; and how to inject them."""

import errno
from collections.abc import Callable

import asyncpg
import psycopg
import psycopg_pool
import pytest
from sqlalchemy import text

from erp_service.db.engine import Database
from erp_service.db.outages import PoolTimeout
from erp_service.db.sessions import Session

Failure = Callable[[], Exception]

LOST: dict[str, Failure] = {
    "refused": lambda: ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"),
    "reset": lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "no answer": TimeoutError,
    "no connection in the pool": lambda: PoolTimeout("no connection was given back in time"),
    "interface": lambda: asyncpg.InterfaceError("connection is closed"),
    # what asyncpg raises when it is cut off between two steps of one statement
    "internal client": lambda: asyncpg.InternalClientError("cannot switch to state 11; another operation"),
}
"""Without an SQLSTATE."""

STATES: dict[str, type[asyncpg.PostgresError]] = {
    "08003": asyncpg.ConnectionDoesNotExistError,
    "08006": asyncpg.ConnectionFailureError,
    "25P03": asyncpg.IdleInTransactionSessionTimeoutError,
    "25P04": asyncpg.exceptions.TransactionTimeoutError,
    "25006": asyncpg.ReadOnlySQLTransactionError,
    "40001": asyncpg.SerializationError,
    "40P01": asyncpg.DeadlockDetectedError,
    "53100": asyncpg.DiskFullError,
    "53200": asyncpg.OutOfMemoryError,
    "53300": asyncpg.TooManyConnectionsError,
    "57014": asyncpg.QueryCanceledError,
    "57P01": asyncpg.AdminShutdownError,
    "57P03": asyncpg.CannotConnectNowError,
}
"""Those that mean that the database is unavailable."""

FAULTS: dict[str, type[asyncpg.PostgresError]] = {
    "22003": asyncpg.NumericValueOutOfRangeError,
    "23505": asyncpg.UniqueViolationError,
    "25P02": asyncpg.InFailedSQLTransactionError,
    "42P01": asyncpg.UndefinedTableError,
    "55P03": asyncpg.LockNotAvailableError,
    "XX000": asyncpg.InternalServerError,
}
"""Those that do not: the statement is wrong, or another transaction is in its way."""


def psycopg_of_state(state: str) -> Failure:
    return lambda: psycopg.errors.lookup(state)("injected")


def of_state(kind: type[asyncpg.PostgresError]) -> Failure:
    return lambda: kind("injected")


UNAVAILABLE: dict[str, Failure] = LOST | {state: of_state(kind) for state, kind in STATES.items()}
# what a place that uses nothing but the database must survive, whatever it is
ANY: dict[str, Failure] = (
    UNAVAILABLE
    | {state: of_state(kind) for state, kind in FAULTS.items()}
    | {"no route": lambda: OSError(errno.EHOSTUNREACH, "No route to host")}
)

PSYCOPG: dict[str, Failure] = {
    "operational": lambda: psycopg.OperationalError("server closed the connection unexpectedly"),
    "interface": lambda: psycopg.InterfaceError("the connection is closed"),
    "pool": lambda: psycopg_pool.PoolTimeout("couldn't get a connection after 2.00 sec"),
    "timeout": TimeoutError,
    **{state: psycopg_of_state(state) for state in STATES},
}


def each(failures: dict[str, Failure]) -> pytest.MarkDecorator:
    """Run the test once with each failure, as `failure`."""
    return pytest.mark.parametrize("failure", failures.values(), ids=failures.keys())


def inject(monkeypatch: pytest.MonkeyPatch, failure: Failure) -> None:
    """From now on every statement of a session fails so."""

    async def fail(*_: object, **__: object) -> None:
        raise failure()

    for method in ("fetch", "fetch_value", "run"):
        monkeypatch.setattr(Session, method, fail)


async def as_a_session_raises(database: Database, failure: Failure) -> Exception:
    """The failure as it leaves a session."""
    with pytest.MonkeyPatch.context() as patch:
        inject(patch, failure)
        try:
            async with database.read() as db:
                await db.execute(text("select 1"))
        except Exception as exc:  # noqa: BLE001 whatever it is, is asked for
            return exc
    raise AssertionError("nothing was raised")
