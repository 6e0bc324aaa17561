"""Procrastinate's connector for workers, hardened against a server or a network that hangs or goes away, or that no
longer leads.

psycopg would try the hosts of an address one after the other, and wait for each that is silent. So its address is that
of the one host that leads, as db/servers/opening.py finds it. What it opens is behind the same fence
(db/servers/leaders.py): refused on an older timeline, and ended when a newer one is met.

Jobs that belong to a transaction are deferred by jobs.py, without a connector. So what is deferred over this one while
it is closed raises AppNotOpen instead of being deferred outside a transaction."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
import psycopg_pool
from procrastinate import PsycopgConnector
from procrastinate.connector import Notify
from psycopg import sql
from psycopg.rows import DictRow

from erp_service.db.backoff import Backoff
from erp_service.db.connections import KEEPALIVE as SERVER_KEEPALIVE
from erp_service.db.connections import connect
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.db.servers.addresses import parse
from erp_service.db.servers.leaders import LEADERS, STANDING, NotLeading, Standing
from erp_service.queue.outages import PSYCOPG_ERRORS, is_server_left

log = logging.getLogger(__name__)

STATEMENT_SECONDS = 30
ANSWER_SECONDS = STATEMENT_SECONDS + 5.0
CHECK_SECONDS = 2.0
POOL_WAIT_SECONDS = 2.0
POOL_RECONNECT_SECONDS = 1.0
LISTEN_PING_SECONDS = 2.0
LISTEN_RETRY_SECONDS = 0.5

# A peer that vanished without a FIN is noticed after about 25 s of silence, or after 20 s without an acknowledgement.
KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
CATCH_UP = json.dumps({"type": "job_inserted", "job_id": 0})


class _Pool(psycopg_pool.AsyncConnectionPool):
    @staticmethod
    async def check_connection(connection: psycopg.AsyncConnection[Any]) -> None:
        with _answered_within(CHECK_SECONDS, connection):
            await psycopg_pool.AsyncConnectionPool.check_connection(connection)

    async def wait(self, timeout: float = 0) -> None:
        """Return once a connection is open, whatever the `timeout`.

        Upstream's fails after 30 s, and waits for the attempts that the opening has started, which soon give up
        (`reconnect_timeout`). Each request starts new ones."""
        while True:
            with suppress(psycopg_pool.PoolTimeout):
                async with self.connection():
                    return


def _pool(**arguments: Any) -> _Pool:
    # upstream passes psycopg_pool's own check, which waits for ever for a server that hangs
    return _Pool(**{**arguments, "check": _Pool.check_connection})


class WorkerConnector(PsycopgConnector):
    """Has a pool of its own to `url`, a `postgresql://` address with one host or several (db/servers/addresses.py)."""

    def __init__(self, url: str, *, name: str = "erp worker", pool_size: int = 6) -> None:
        self.url = url
        self._address = parse(url)
        # by monotonic(): when each connection was opened, and when the pool last left a server
        self._opened_at: WeakKeyDictionary[psycopg.AsyncConnection[Any], float] = WeakKeyDictionary()
        self._left_at = float("-inf")
        self._arguments: dict[str, Any] = {
            **KEEPALIVE,
            "application_name": name,
            "connect_timeout": 5,
            "options": f"-c timezone=UTC -c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout=10s"
            " -c idle_in_transaction_session_timeout=5s"
            + "".join(f" -c {limit}={value}" for limit, value in SERVER_KEEPALIVE.items()),
        }
        super().__init__(
            pool_factory=_pool,
            conninfo=self._url_of_leader,
            configure=self._admit,
            kwargs=self._arguments,
            min_size=1,
            max_size=pool_size,
            timeout=POOL_WAIT_SECONDS,
            # The pool doubles its pauses between attempts without a limit: after an outage of a minute it would wait
            # another minute. If it gives up soon, each new request starts with short pauses again.
            reconnect_timeout=POOL_RECONNECT_SECONDS,
        )

    @asynccontextmanager
    async def _get_cursor(
        self, connection: psycopg.AsyncConnection | None = None
    ) -> AsyncGenerator[psycopg.AsyncCursor[DictRow]]:
        """Upstream waits for ever on a connection that hangs without closing."""
        used = None
        try:
            with ExitStack() as deadline:
                async with super()._get_cursor(connection) as cursor:
                    used = cursor.connection
                    deadline.enter_context(_answered_within(ANSWER_SECONDS, used))
                    yield cursor
        except psycopg.Error as exc:
            if used is not None and is_server_left(exc):
                await self._leave_server(used)
            raise

    async def _url_of_leader(self) -> str:
        """Raises what `connections.connect` does."""
        hosts = self._address.hosts
        if len(hosts) == 1:
            return self.url
        # psycopg would resolve the names of all hosts first, also of one that is gone
        (await connect(self.url, name=f"{self._arguments['application_name']} search")).terminate()
        return self._address.url(LEADERS.in_order(hosts)[0])

    async def _admit(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Prepare a new connection. Raises NotLeading, after which it is closed."""
        try:
            with _answered_within(CHECK_SECONDS, connection):
                # each query of Procrastinate is one statement: without BEGIN and COMMIT, a fetch takes two round trips
                # less
                await connection.set_autocommit(True)
                rows = await (await connection.execute(STANDING)).fetchall()
            standing = Standing.of(*rows[0])
            if standing.read_only and self._address.target == "read-write":
                raise NotLeading("it refuses writes (default_transaction_read_only)")
            LEADERS.admit(connection, standing, _shut_down)
        except BaseException:
            await connection.close()
            raise
        self._opened_at[connection] = monotonic()

    async def _leave_server(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """The other connections lead to the same server, and each would have to be found out by a query. But not those
        that were opened since another query has found it out."""
        if self._opened_at.get(connection, self._left_at) > self._left_at:
            self._left_at = monotonic()
            await self.pool.drain()

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Listen for ever. Upstream stops silently at the first reconnect that fails (issue #1597)."""
        channels = list(channels)
        pauses = Backoff(0.05, LISTEN_RETRY_SECONDS)
        while True:
            try:
                async with self._listening(channels) as connection:
                    pauses.reset()
                    # notifications of jobs that were deferred meanwhile are lost, so look for jobs once
                    await on_notification(channel=channels[0], payload=CATCH_UP)
                    await _forward(connection, on_notification)
            except (*PSYCOPG_ERRORS, *DATABASE_ERRORS) as exc:
                log.warning("lost the connection for notifications, connecting again: %r", exc)
            await asyncio.sleep(pauses.next())

    @asynccontextmanager
    async def _listening(self, channels: list[str]) -> AsyncIterator[psycopg.AsyncConnection]:
        arguments = {**self._arguments, "application_name": f"{self._arguments['application_name']} listener"}
        connection = await psycopg.AsyncConnection.connect(await self._url_of_leader(), **arguments)
        async with connection:
            await self._admit(connection)
            for channel in channels:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            yield connection

    async def mend_pool(self) -> None:
        """Replace dead pooled connections at once; otherwise each caller meets one, and waits for its replacement."""
        await self.pool.check()


async def _forward(connection: psycopg.AsyncConnection, on_notification: Notify) -> None:
    while True:
        async for notification in connection.notifies(timeout=LISTEN_PING_SECONDS):
            await on_notification(channel=notification.channel, payload=notification.payload)
        # a peer that hangs without closing is silent, too
        with _answered_within(LISTEN_PING_SECONDS, connection):
            await connection.execute("SELECT 1")


@contextmanager
def _answered_within(seconds: float, connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Without an answer in time, the waiting code gets the OperationalError of a closed connection.

    A cancellation would be worse: psycopg asks the server to cancel, which takes ten more seconds if that hangs."""
    timer = asyncio.get_running_loop().call_later(seconds, _shut_down, connection)
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(connection: psycopg.AsyncConnection[Any]) -> None:
    with suppress(*PSYCOPG_ERRORS), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
