"""Procrastinate's connector, joined to our transactions: jobs are deferred over asyncpg, workers use psycopg.

A job that is deferred with `connection=db` commits or rolls back with everything else in that transaction. A worker
sees it a few milliseconds after the commit, and never before. This needs no pool. In the API the connector stays
closed, so that a job which is deferred without a connection raises AppNotOpen instead of being deferred outside the
transaction."""

import asyncio
import json
import logging
import os
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from typing import Any

import psycopg
import psycopg_pool
from procrastinate import PsycopgConnector, exceptions, manager, tasks
from procrastinate.connector import Notify
from procrastinate.types import JSONValue
from psycopg import sql
from psycopg.rows import DictRow
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from erp_service.db.backoff import Backoff
from erp_service.db.connections import KEEPALIVE as SERVER_KEEPALIVE
from erp_service.db.outages import constraint_of
from erp_service.db.sessions import WriteSession
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

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_LOCK_IN_DETAIL = re.compile(r"Key \(queueing_lock\)=\((.*)\)", re.DOTALL)


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


class JoiningConnector(PsycopgConnector):
    """Uses the caller's SQLAlchemy connection over asyncpg where one is given, else, in workers, a pool of its own to
    `url` (a `postgresql://` address, `?host=/socket/dir` included)."""

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
        """Upstream waits for ever on a connection that hangs without closing. The time limit includes the commit."""
        with ExitStack() as deadline:
            async with super()._get_cursor(connection) as cursor:
                deadline.enter_context(_answered_within(ANSWER_SECONDS, cursor.connection))
                yield cursor

    async def execute_query_all_async_with_connection(
        self, connection: AsyncConnection, query: str, **arguments: Any
    ) -> list[dict[str, Any]]:
        """Issue #417: upstream does not support asyncpg. Raises UniqueViolation, and else what SQLAlchemy raises: the
        owner of the transaction knows what a lost connection means for it."""
        statement, parameters = _numbered(query, arguments)
        with _as_unique_violation():
            result = await connection.exec_driver_sql(statement, parameters)
            return [dict(row) for row in result.mappings()]

    async def execute_query_one_async_with_connection(
        self, connection: AsyncConnection, query: str, **arguments: Any
    ) -> dict[str, Any]:
        """The same for one row; raises NoResult when there is none, as upstream does."""
        rows = await self.execute_query_all_async_with_connection(connection, query, **arguments)
        if not rows:
            raise exceptions.NoResult
        return rows[0]

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


def _numbered(query: str, arguments: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The query with asyncpg's `$n` instead of psycopg's `%(name)s`, and the values in that order."""
    order: dict[str, int] = {}
    statement = _PLACEHOLDER.sub(lambda m: f"${order.setdefault(m[1], len(order) + 1)}", query)
    return statement, tuple(_plain(arguments[name]) for name in order)


def _plain(value: Any) -> Any:
    """A value as asyncpg takes it: SQLAlchemy's jsonb codec takes text, and a composite value is a tuple."""
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    return value


@contextmanager
def _as_unique_violation() -> Iterator[None]:
    """Raise what Procrastinate raises for a constraint of its tables."""
    try:
        yield
    except IntegrityError as exc:
        key = _LOCK_IN_DETAIL.search(getattr(exc.orig, "detail", None) or "")
        raise exceptions.UniqueViolation(
            constraint_name=constraint_of(exc), queueing_lock=key[1] if key else None
        ) from exc


_IS_DOING = text("select status = 'doing' from procrastinate_jobs where id = :id")
# never opened: in the caller's transaction it needs no connection of its own
_job_manager = manager.JobManager(JoiningConnector("postgresql://"))


async def defer(
    db: WriteSession,
    task: str,
    *,
    queue: str,
    arguments: Mapping[str, JSONValue],
    priority: int = 0,
    lock: str | None = None,
    queueing_lock: str | None = None,
    schedule_at: datetime | None = None,
) -> int:
    """Put a job for the task of this name into the queue, in the caller's transaction. Returns the job's id.

    The task is given by name, since it imports the service that defers it. Raises AlreadyEnqueued if a job with this
    `queueing_lock` waits already; to go on in the same transaction, the call needs a savepoint around it."""
    job = tasks.configure_task(
        name=task,
        job_manager=_job_manager,
        queue=queue,
        priority=priority,
        lock=lock,
        queueing_lock=queueing_lock,
        schedule_at=schedule_at,
        connection=db,
    )
    return await job.defer_async(**arguments)


async def cancel(db: WriteSession, job_id: int) -> bool:
    """When the caller's transaction commits, cancel a waiting job, or request the worker that runs it to stop.

    False if there is nothing to cancel: there is no such job, or it has ended."""
    return await _job_manager.cancel_job_by_id_async(job_id, abort=True, connection=db)


async def is_doing(db: WriteSession, job_id: int) -> bool:
    """Whether a worker runs the job, as the queue knows. After `cancel`: whether a worker is left to stop it."""
    return await db.scalar(_IS_DOING, {"id": job_id}) is True
