"""The connections of one process to one server.

Not asyncpg's own pool: that one sends a reset after each use and starts a task for it, lets a newcomer overtake those
who wait, and does not notice connections that died while they were idle."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, NamedTuple

import asyncpg

from erp_service.db.outages import DATABASE_ERRORS, READ_ONLY, PoolTimeout, is_server_left, sqlstate_of
from erp_service.observability import telemetry

PING_SECONDS = 2.0


class _Idle(NamedTuple):
    connection: asyncpg.Connection
    since: float


class Pool:
    """At most `size` connections, opened when they are needed. The one that was used last is used first.

    Whoever must wait is served in turn, and raises PoolTimeout after `wait_seconds`. A connection that was used within
    `sure_seconds` is not asked whether it lives: if the server was shut down, it has closed the connection, which is
    known without asking. Only a host that vanished has not. `require` raises at once while no server can be reached."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        *,
        size: int,
        wait_seconds: float,
        sure_seconds: float = 1.0,
        require: Callable[[], object] = lambda: None,
    ) -> None:
        self.size, self.in_use = size, 0
        self._connect, self._wait_seconds, self._sure_seconds = connect, wait_seconds, sure_seconds
        self._require = require
        self._slots = asyncio.Semaphore(size)
        self._reads: set[asyncpg.Connection] = set()
        self._idle: deque[_Idle] = deque()
        self._closed = False

    @asynccontextmanager
    async def connection(self, *, reads: bool = False) -> AsyncIterator[asyncpg.Connection]:
        """A connection that was alive a moment ago, outside a transaction. With `reads`, the body changes nothing.

        Raises what `connect` and `require` raise. If the body leaves a transaction open, it is rolled back."""
        connection = await self._take()
        if reads:
            self._reads.add(connection)
        try:
            yield connection
        except BaseException as exc:
            await self._settle(connection, exc)
            raise
        finally:
            self._give_back(connection)

    async def call(self, method: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        """A method of asyncpg.Connection, for a statement that reads, on a connection that is taken for it alone."""
        connection = await self._take()
        self._reads.add(connection)
        try:
            return await method(connection, *arguments)
        except BaseException as exc:
            await self._settle(connection, exc)
            raise
        finally:
            self._give_back(connection)

    async def _take(self) -> asyncpg.Connection:
        self._require()
        await self._take_slot()
        try:
            # who waited for a slot may have waited for the end of statements to a server that is silent
            self._require()
            connection = await self._living() or await self._connect()
        except BaseException:
            self._slots.release()
            raise
        self.in_use += 1
        return connection

    def _give_back(self, connection: asyncpg.Connection) -> None:
        self.in_use -= 1
        self._reads.discard(connection)
        if not connection.is_closed():
            if self._closed or connection.is_in_transaction():
                connection.terminate()
            else:
                self._idle.append(_Idle(connection, monotonic()))
        self._slots.release()

    async def close(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        self._closed = True
        while self._idle:
            await _close(self._idle.pop().connection)

    def end_reads(self) -> None:
        """Reads fail now, instead of waiting for a server that is silent. What writes is left alone: the server may
        have committed it, and its answer may still come."""
        for connection in list(self._reads):
            connection.terminate()
        self._leave_server()

    def abandon(self) -> None:
        """Terminate the idle connections; those in use are closed when they are given back."""
        self._closed = True
        self._leave_server()

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            # does not wait, so it needs no time limit
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise PoolTimeout(f"no connection was given back within {self._wait_seconds} s") from None

    async def _living(self) -> asyncpg.Connection | None:
        """None if a new connection is needed."""
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_closed():
                continue
            if monotonic() - since < self._sure_seconds or await _answers(connection):
                return connection
            self._leave_server()
        return None

    async def _settle(self, connection: asyncpg.Connection, exc: BaseException) -> None:
        """End what the connection was doing when `exc` came: a transaction, or a statement that was canceled."""
        if is_server_left(exc):
            connection.terminate()
            if sqlstate_of(exc) == READ_ONLY:
                telemetry.connections_left.labels("demoted").inc(1 + len(self._idle))
            self._leave_server()
        if connection.is_closed() or not (
            connection.is_in_transaction() or isinstance(exc, TimeoutError | asyncio.CancelledError)
        ):
            return
        try:
            await connection.execute("rollback", timeout=PING_SECONDS)
        except DATABASE_ERRORS:
            # it must not hide the first error from the caller
            connection.terminate()
        except BaseException:
            connection.terminate()
            raise

    def _leave_server(self) -> None:
        """The idle connections are as dead as the one that was found out, or lead to the same demoted server: each
        would have to be found out by a request."""
        while self._idle:
            self._idle.pop().connection.terminate()


async def _answers(connection: asyncpg.Connection) -> bool:
    try:
        await connection.execute("select", timeout=PING_SECONDS)
    except DATABASE_ERRORS:
        connection.terminate()
        return False
    except BaseException:
        connection.terminate()
        raise
    return True


async def _close(connection: asyncpg.Connection) -> None:
    with contextlib.suppress(*DATABASE_ERRORS):
        await connection.close(timeout=PING_SECONDS)
    if not connection.is_closed():
        connection.terminate()
