"""Which errors mean that the database, or the way to it, is unavailable: the only place that says so.

asyncpg raises four unrelated families: PostgresError, which the server sent and which has an SQLSTATE; InterfaceError,
such as for a connection that is closed; InternalClientError, when a connection breaks between two steps of one
statement; and OSError. A list that forgets one of them turns an outage into a fault of ours. SQLAlchemy, which only
Alembic connects with, wraps them. For psycopg, which only the queue and `erp up` use, see queue/outages.py.

The SQLSTATEs are those of https://www.postgresql.org/docs/current/errcodes-appendix.html; the first two characters of
one are its class."""

from collections.abc import Iterator

from asyncpg import InterfaceError, InternalClientError, PostgresError, PostgresLogMessage
from sqlalchemy.exc import DBAPIError, SQLAlchemyError


class PoolTimeout(Exception):
    """All connections of the pool were in use for too long."""


class NotReplicated(ConnectionError):
    """A transaction was committed on a server that no standby has confirmed it to: it may be lost, or may not."""


_DRIVER_ERRORS = (InterfaceError, InternalClientError)

CONNECTION_ERRORS = (OSError, *_DRIVER_ERRORS, PoolTimeout)
"""What asyncpg raises if no server answers, without an SQLSTATE. ConnectionError and TimeoutError are OSErrors."""

DATABASE_ERRORS = (*CONNECTION_ERRORS, PostgresError, SQLAlchemyError)
"""Everything that a use of the database can raise, for `except` around code that uses nothing else.

Wider than `is_unavailable`: a statement that is wrong is one of these too."""

DATABASE_ONLY_ERRORS = (ConnectionError, TimeoutError, PoolTimeout, *_DRIVER_ERRORS, PostgresError, SQLAlchemyError)
"""Those of them that no file can raise, for code that uses files too."""

DATA_EXCEPTION = "22"
"""Class: a value that the column or the function does not take, such as a number too large."""

SERIALIZATION_FAILURE, DEADLOCK, LOCK_NOT_AVAILABLE = "40001", "40P01", "55P03"
CONTENTION = frozenset({SERIALIZATION_FAILURE, DEADLOCK, LOCK_NOT_AVAILABLE})
"""Others are changing the same rows: the same transaction may succeed in a moment."""

STATEMENT_CANCELED = "57014"
"""By statement_timeout, by a person, or on a replica by what the primary had to remove."""

DISK_FULL = "53100"

UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE = "42P01", "42501"
"""The schema, or the rights of the user, are not those that a command needs."""

READ_ONLY = "25006"
"""The server has been demoted, or is a replica."""

# demoted, being shut down, crashed, not started yet: what is true of one connection is true of all to this server
_SERVER_LEFT = frozenset({READ_ONLY, "57P01", "57P02", "57P03"})

_IDLE_IN_TRANSACTION, _TRANSACTION_TIMEOUT = "25P03", "25P04"  # as after a pause of this process

# connection, transaction rolled back, insufficient resources, operator intervention
_UNAVAILABLE_CLASSES = frozenset({"08", "40", "53", "57"})
_UNAVAILABLE_STATES = frozenset({READ_ONLY, _IDLE_IN_TRANSACTION, _TRANSACTION_TIMEOUT})
# connection, insufficient resources, operator intervention, system error, configuration file, internal error
_SERVER_CLASSES = frozenset({"08", "53", "57", "58", "F0", "XX"})


def is_unavailable(exc: BaseException) -> bool:
    """The database, or the way to it, was unavailable: what was tried is not at fault, and may succeed later.

    Of OSError only ConnectionError and TimeoutError count, since others may come from a file; `Database` and
    `connections.connect` raise ConnectionError for all that keeps them from the server."""
    if isinstance(exc, PostgresError | DBAPIError) and (state := sqlstate_of(exc)):
        return state_is_unavailable(state) or (isinstance(exc, DBAPIError) and exc.connection_invalidated)
    if _is_bad_argument(exc):
        return False
    lost = PoolTimeout | DBAPIError | ConnectionError | TimeoutError | InterfaceError | InternalClientError
    return isinstance(exc, lost)


def is_connection_lost(exc: BaseException) -> bool:
    """The driver no longer knows in which state the connection is: it must not be used again, though it may be open."""
    return isinstance(exc, _DRIVER_ERRORS) and not _is_bad_argument(exc)


def is_warning(message: PostgresLogMessage) -> bool:
    """With the answer to a COMMIT it says that the wait for a synchronous standby was cancelled: perhaps only this
    server has the transaction."""
    return bool(message.sqlstate == "01000")


def is_server_left(exc: BaseException) -> bool:
    """Not only this connection must not be used again, but none to the same server."""
    return is_connection_lost(exc) or sqlstate_of(exc) in _SERVER_LEFT


def _is_bad_argument(exc: BaseException) -> bool:
    """An argument is not of the type of its parameter: nothing was sent (asyncpg's own DataError)."""
    return isinstance(exc, InterfaceError) and isinstance(exc, ValueError)


def state_is_unavailable(sqlstate: str) -> bool:
    """`is_unavailable` for an SQLSTATE."""
    return sqlstate[:2] in _UNAVAILABLE_CLASSES or sqlstate in _UNAVAILABLE_STATES


def is_server_failure(exc: BaseException) -> bool:
    """One of DATABASE_ERRORS is about the connection or the server, not about the statement: others would fail too."""
    state = sqlstate_of(exc)
    return not state or state[:2] in _SERVER_CLASSES


def may_succeed_elsewhere(exc: BaseException) -> bool:
    """It was the server or the way to it, and not the statement: what took too long would do so on another server."""
    if isinstance(exc, PoolTimeout | TimeoutError) or sqlstate_of(exc) == STATEMENT_CANCELED:
        return False
    return is_server_failure(exc)


def is_full(exc: BaseException) -> bool:
    """The server is there, and has no room for more."""
    return sqlstate_of(exc).startswith("53")


def sqlstate_of(exc: BaseException) -> str:
    """The SQLSTATE of the driver's error, however deep it is wrapped; empty if there is none."""
    return next((state for error in _wrapped(exc) if (state := getattr(error, "sqlstate", None))), "")


def constraint_of(exc: BaseException) -> str | None:
    """The name of the constraint that a statement violated."""
    # only the driver's own error names it, not SQLAlchemy's and not that of SQLAlchemy's adapter
    return next((name for error in _wrapped(exc) if (name := getattr(error, "constraint_name", None))), None)


def _wrapped(exc: BaseException) -> Iterator[BaseException]:
    """The error itself, then what each wraps: SQLAlchemy's holds its adapter's, whose cause is the driver's."""
    error: BaseException | None = exc
    while error is not None:
        yield error
        error = getattr(error, "orig", None) or error.__cause__
