"""Procrastinate's connector, joined to our transactions: jobs are deferred over asyncpg, workers live on psycopg.

A job that is deferred with `connection=db` commits or rolls back with everything else that `db` does, and a worker
sees it a few milliseconds after the commit, never before. That path needs no pool: leave the connector closed in
the API, and a job deferred without a connection raises AppNotOpen instead of slipping out of its transaction."""

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

# A peer that vanished without a FIN is noticed after about 25 s of silence, or 20 s of unanswered data.
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
    # upstream names the stock check, which waits for ever for a server that hangs
    return _Pool(**{**arguments, "check": _Pool.check_connection})


class JoiningConnector(PsycopgConnector):
    """Connects with `url` (a `postgresql://` address, `?host=/socket/dir` included) for workers, and runs on the
    caller's SQLAlchemy connection over asyncpg where one is given."""

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
            kwargs=self._arguments,
            min_size=1,
            max_size=pool_size,
            timeout=POOL_WAIT_SECONDS,
            # The pool doubles its pause between attempts without a limit: after a minute's outage it would stay
            # away for another. Given up soon, each new request starts anew.
            reconnect_timeout=POOL_RECONNECT_SECONDS,
        )

    @asynccontextmanager
    async def _get_cursor(
        self, connection: psycopg.AsyncConnection | None = None
    ) -> AsyncGenerator[psycopg.AsyncCursor[DictRow]]:
        """Upstream waits for ever for an answer on a connection that hangs without closing. The commit counts, too."""
        with ExitStack() as deadline:
            async with super()._get_cursor(connection) as cursor:
                deadline.enter_context(_answered_within(ANSWER_SECONDS, cursor.connection))
                yield cursor

    async def execute_query_all_async_with_connection(
        self, connection: AsyncConnection, query: str, **arguments: Any
    ) -> list[dict[str, Any]]:
        """Issue #417: upstream has no asyncpg. Raises UniqueViolation, and what SQLAlchemy raises: whoever has the
        transaction knows what a lost connection means for it."""
        statement, parameters = _numbered(query, arguments)
        with _as_procrastinate_says_it():
            result = await connection.exec_driver_sql(statement, parameters)
            return [dict(row) for row in result.mappings()]

    async def execute_query_one_async_with_connection(
        self, connection: AsyncConnection, query: str, **arguments: Any
    ) -> dict[str, Any]:
        """As above, for one row: raises NoResult when there is none, as upstream does."""
        rows = await self.execute_query_all_async_with_connection(connection, query, **arguments)
        if not rows:
            raise exceptions.NoResult
        return rows[0]

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Listen for ever. Upstream stops at the first failed reconnect and nobody notices (issue #1597)."""
        channels = list(channels)
        pauses = Backoff(0.05, LISTEN_RETRY_SECONDS)
        while True:
            try:
                async with self._listening(channels) as connection:
                    pauses.reset()
                    # What was deferred while nobody listened sent its notice to nobody
                    await on_notification(channel=channels[0], payload=CATCH_UP)
                    await _hand_on(connection, on_notification)
            except PSYCOPG_ERRORS as exc:
                log.warning("lost the connection that listens, trying again: %r", exc)
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
        """Replace pooled connections that died, at once: else each caller finds one for itself, with pauses."""
        await self.pool.check()


async def _hand_on(connection: psycopg.AsyncConnection, on_notification: Notify) -> None:
    while True:
        async for notification in connection.notifies(timeout=LISTEN_PING_SECONDS):
            await on_notification(channel=notification.channel, payload=notification.payload)
        # A peer that hangs without closing is silent, so ask
        with _answered_within(LISTEN_PING_SECONDS, connection):
            await connection.execute("SELECT 1")


@contextmanager
def _answered_within(seconds: float, connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Else whoever waits in here gets the OperationalError of a server that has closed the connection.

    A cancellation would do worse: psycopg then asks the server to cancel, which takes ten more seconds if it hangs."""
    timer = asyncio.get_running_loop().call_later(seconds, _hang_up, connection)
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(connection: psycopg.AsyncConnection[Any]) -> None:
    with suppress(*PSYCOPG_ERRORS), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _numbered(query: str, arguments: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """psycopg's `%(name)s` as asyncpg's `$n`, with the values in that order."""
    order: dict[str, int] = {}
    statement = _PLACEHOLDER.sub(lambda m: f"${order.setdefault(m[1], len(order) + 1)}", query)
    return statement, tuple(_plain(arguments[name]) for name in order)


def _plain(value: Any) -> Any:
    """SQLAlchemy's jsonb codec for asyncpg takes text; a composite row is a plain tuple."""
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    return value


@contextmanager
def _as_procrastinate_says_it() -> Iterator[None]:
    try:
        yield
    except IntegrityError as exc:
        key = _LOCK_IN_DETAIL.search(getattr(exc.orig, "detail", None) or "")
        raise exceptions.UniqueViolation(
            constraint_name=constraint_of(exc), queueing_lock=key[1] if key else None
        ) from exc


# Never opened: whoever defers in a transaction needs statements, not connections
_IS_DOING = text("select status = 'doing' from procrastinate_jobs where id = :id")
_joined = manager.JobManager(JoiningConnector("postgresql://"))


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

    By name, so that a service can defer without importing the tasks that import it, and without an app.
    Raises AlreadyEnqueued if a job with this `queueing_lock` waits; undo that with a savepoint around the call."""
    job = tasks.configure_task(
        name=task,
        job_manager=_joined,
        queue=queue,
        priority=priority,
        lock=lock,
        queueing_lock=queueing_lock,
        schedule_at=schedule_at,
        connection=db,
    )
    return await job.defer_async(**arguments)


async def cancel(db: WriteSession, job_id: int) -> bool:
    """Cancel a waiting job, or ask whichever worker runs it to stop, when the caller's transaction commits.

    False if there is nothing to cancel: no such job, or it has ended."""
    return await _joined.cancel_job_by_id_async(job_id, abort=True, connection=db)


async def is_doing(db: WriteSession, job_id: int) -> bool:
    """Whether a worker is said to run the job; after `cancel`, whether somebody is left who can answer it."""
    return await db.scalar(_IS_DOING, {"id": job_id}) is True
