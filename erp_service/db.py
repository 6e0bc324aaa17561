"""The database: one pool to the primary, perhaps one to a replica, and sessions whose types say what they may do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, NewType
from urllib.parse import parse_qs, unquote, urlencode, urlsplit, urlunsplit

import asyncpg
from sqlalchemy import ColumnElement, DateTime, MetaData, Numeric, event, func, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InvalidatePoolError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from erp_service.numbers import MONEY_SCALE, PRECISION, QUANTITY_SCALE
from erp_service.settings import Settings

ReadSession = NewType("ReadSession", AsyncConnection)
"""Autocommit: each statement sees what is committed when it starts. May be a replica. Never writes."""

WriteSession = NewType("WriteSession", AsyncConnection)
"""One transaction on the primary, committed before the answer starts."""

Session = ReadSession | WriteSession
"""For a function that only reads and does not mind where."""

PING_SECONDS = 2.0

KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}


class Base(DeclarativeBase):
    """Constraints are named, so that errors.constraint can say what each means; every time carries its zone."""

    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True)}

    metadata = MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        }
    )


class Exact(TypeDecorator[Decimal]):
    """A numeric that is read in its shortest exact form: `12.5` out of numeric(18,6).

    Not applied to aggregates: write `func.trim_scale(func.sum(...))` there."""

    impl = Numeric
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.trim_scale(column)


def quantity_column() -> Exact:
    return Exact(PRECISION, QUANTITY_SCALE)


def money_column() -> Exact:
    return Exact(PRECISION, MONEY_SCALE)


class Database:
    """The pools of one process. Nothing connects before the first session."""

    def __init__(self, settings: Settings, *, name: str = "erp") -> None:
        limits = {
            "application_name": name,
            "statement_timeout": str(int(settings.statement_seconds * 1000)),
            # below the lock_timeout: a process that is paused in a transaction lets go before the others give up
            "idle_in_transaction_session_timeout": "5000",
            # a request that waits longer for a row than a load balancer waits for it helps nobody
            "lock_timeout": "10000",
            "timezone": "UTC",
            **KEEPALIVE,
        }
        self._primary = create_async_engine(
            engine_url(settings.database_url),
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_timeout=settings.pool_timeout_seconds,
            # a server that hangs does not keep its own limit
            connect_args={"server_settings": limits, "timeout": 5, "command_timeout": settings.statement_seconds + 5},
        )
        event.listen(self._primary.sync_engine, "checkout", _answers)
        self._reader = self._primary.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        async with _reached(self._primary) as connection:
            transaction = await connection.begin()
            try:
                yield WriteSession(connection)
            except BaseException:
                # with the connection lost there is nothing to roll back, and the caller asks why it came to this
                with contextlib.suppress(SQLAlchemyError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                    await transaction.rollback()
                raise
            # unless it was rolled back inside
            if transaction.is_active:
                await transaction.commit()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        async with _reached(self._reader) as connection:
            yield ReadSession(connection)

    def pool(self) -> dict[str, int]:
        pool: Any = self._primary.pool
        return {"size": pool.size(), "in_use": pool.checkedout()}

    async def close(self) -> None:
        await self._primary.dispose()


def _answers(connection: Any, _record: Any, _proxy: Any) -> None:
    """Costs one round trip a checkout, and saves every request that follows a restart of Postgres.

    SQLAlchemy's own ping waits for ever on a connection that hangs without closing."""
    try:
        connection.run_async(_ping)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as exc:
        raise InvalidatePoolError from exc


async def _ping(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute("select", timeout=PING_SECONDS)
    except BaseException:
        # SQLAlchemy would first wait for an orderly end
        connection.terminate()
        raise


@asynccontextmanager
async def _reached(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Raises ConnectionError when nobody is there, so that a missing socket is not taken for a missing file."""
    connection = engine.connect()
    try:
        await connection.start()
    except ConnectionError:
        raise
    # asyncpg's own two are what it raises when it is cut off while it connects
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
        raise ConnectionError(f"the database cannot be reached: {exc}") from exc
    try:
        yield connection
    finally:
        await connection.close()


def engine_url(url: str) -> str:
    """SQLAlchemy's spelling of a postgresql:// address: the same with the driver's name in it."""
    return make_url(url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def asyncpg_arguments(url: str) -> dict[str, Any]:
    """What `asyncpg.connect` takes for a postgresql:// address (libpq's `?host=/socket/dir` included)."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = query.pop("host", None) or parts.hostname
    arguments = {
        "host": unquote(host) if host else None,
        "port": int(query.pop("port", parts.port or 5432)),
        "user": unquote(parts.username) if parts.username else query.pop("user", None),
        "password": unquote(parts.password) if parts.password else query.pop("password", None),
        "database": unquote(parts.path.lstrip("/")) or None,
        "ssl": query.pop("sslmode", None),
    }
    return {name: value for name, value in arguments.items() if value is not None}


async def connect(url: str, *, name: str, **server_settings: str) -> asyncpg.Connection:
    """A connection of one's own, outside the pools: for LISTEN, for COPY, for locks that a session holds."""
    return await asyncpg.connect(
        **asyncpg_arguments(url),
        timeout=5,
        server_settings={"application_name": name, "timezone": "UTC", **KEEPALIVE, **server_settings},
    )


def with_database(url: str, database: str) -> str:
    """The same server, another database."""
    parts = urlsplit(url)
    query = urlencode({name: values[-1] for name, values in parse_qs(parts.query).items()}, safe="/")
    return urlunsplit(parts._replace(path=f"/{database}", query=query))


_NOT_YET = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


async def wait_until_up(url: str, *, seconds: float) -> None:
    """Return when the server takes connections; raises the last error after `seconds`."""
    delay = 0.1
    async with asyncio.timeout(seconds + 5):
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                connection = await connect(url, name="erp start")
            except _NOT_YET:
                if asyncio.get_running_loop().time() + delay > deadline:
                    raise
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2)
            else:
                await connection.close()
                return


async def is_up(db: Session) -> bool:
    return bool(await db.scalar(text("select true")))
