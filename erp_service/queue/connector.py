"""Procrastinate's connector for workers, hardened against a server or a network that hangs or goes away.

Jobs that belong to a transaction are deferred by jobs.py, without a connector. So what is deferred over this one while
it is closed raises AppNotOpen instead of being deferred outside a transaction."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg
import psycopg_pool
from procrastinate import PsycopgConnector
from procrastinate.connector import Notify
from psycopg import sql
from psycopg.rows import DictRow

from erp_service.db.backoff import Backoff
from erp_service.db.connections import KEEPALIVE as SERVER_KEEPALIVE
from erp_service.queue.outages import PSYCOPG_ERRORS

log = logging.getLogger(__name__)

STATEMENT_SECONDS = 30
ANSWER_SECONDS = STATEMENT_SECONDS + 5.0
CHECK_SECONDS = 2.0
POOL_WAIT_SECONDS = 2.0
POOL_RECONNECT_SECONDS = 1.0
LISTEN_PING_SECONDS = 5.0
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


def _pool(**arguments: Any) -> _Pool:
    # upstream passes psycopg_pool's own check, which waits for ever for a server that hangs
    return _Pool(**{**arguments, "check": _Pool.check_connection})


async def _autocommit(connection: psycopg.AsyncConnection[Any]) -> None:
    """Each query of Procrastinate is one statement: without BEGIN and COMMIT, a fetch takes two round trips less."""
    await connection.set_autocommit(True)


class WorkerConnector(PsycopgConnector):
    """Has a pool of its own to `url` (a `postgresql://` address, `?host=/socket/dir` included)."""

    def __init__(self, url: str, *, name: str = "erp worker", pool_size: int = 6) -> None:
        self.url = url
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
            conninfo=url,
            configure=_autocommit,
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
        with ExitStack() as deadline:
            async with super()._get_cursor(connection) as cursor:
                deadline.enter_context(_answered_within(ANSWER_SECONDS, cursor.connection))
                yield cursor

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
            except PSYCOPG_ERRORS as exc:
                log.warning("lost the connection for notifications, connecting again: %r", exc)
            await asyncio.sleep(pauses.next())

    @asynccontextmanager
    async def _listening(self, channels: list[str]) -> AsyncIterator[psycopg.AsyncConnection]:
        arguments = {**self._arguments, "application_name": f"{self._arguments['application_name']} listener"}
        connection = await psycopg.AsyncConnection.connect(self.url, autocommit=True, **arguments)
        async with connection:
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
