"""COPY from Postgres into a sink: the rows never become Python objects, and memory stays flat at any size."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg

from erp_service.db import connect
from erp_service.exports.datasets import Query
from erp_service.exports.storage.base import Sink

PIECE = 256 * 1024
COUNTED = 200_000  # rows; a total up to about that is counted, which takes a tenth of a second
_CLOSE_SECONDS = 0.5
_PLAN_SECONDS = 120.0


class Total:
    """How many rows there will be, or about how many."""

    def __init__(self, rows: int, *, is_estimate: bool) -> None:
        self.rows, self.is_estimate = rows, is_estimate


class Snapshot:
    """A connection of its own in a transaction that sees what was committed before `at`, and nothing later."""

    def __init__(self, connection: asyncpg.Connection, at: datetime, backend: int) -> None:
        self._connection = connection
        self.at = at
        self.backend = backend

    async def total(self, query: Query) -> Total:
        plan = await self._connection.fetchval(
            f"explain (format json) {query.sql}", *query.arguments, timeout=_PLAN_SECONDS
        )
        estimate = int(json.loads(plan)[0]["Plan"]["Plan Rows"])
        if estimate > COUNTED:
            return Total(estimate, is_estimate=True)
        count = f"select count(*) from ({query.sql}) rows"  # noqa: S608 constants of the catalogue
        rows = await self._connection.fetchval(count, *query.arguments, timeout=_PLAN_SECONDS)
        return Total(rows, is_estimate=False)

    async def copy_csv(self, query: Query, sink: Sink) -> int:
        """CSV in UTF-8 with LF line ends, byte for byte as psql's `\\copy ... csv header`; returns the rows written.

        Cells that a spreadsheet would take for formulas are left as they are: this is for machines."""
        tag = await self._connection.copy_from_query(
            query.sql, *query.arguments, output=sink, format="csv", header=True, encoding="UTF8"
        )
        return int(tag.removeprefix("COPY "))


@contextlib.asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Snapshot]:
    """Leaving it by a cancellation stops a COPY in the middle, in the server too, within the blink of an eye."""
    limits = {
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        # while it sorts or waits, Postgres would not notice that our process is gone
        "client_connection_check_interval": "5000",
    }
    connection = await connect(url, name="erp export", **limits)
    try:
        await connection.execute("begin isolation level repeatable read read only", timeout=_PLAN_SECONDS)
        # the snapshot is taken by this statement, after its timestamp: what was committed by then is in it
        at, backend = await connection.fetchrow("select statement_timestamp(), pg_backend_pid()", timeout=_PLAN_SECONDS)
        yield Snapshot(connection, at, backend)
    finally:
        with contextlib.suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=_CLOSE_SECONDS)
        connection.terminate()


class Output:
    """Counts and digests what goes into a sink, in large pieces, in threads.

    While one piece is digested and written the next one arrives; there are never more than the two."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._writing: asyncio.Task[None] | None = None
        self.bytes = self.received = 0

    @property
    def idle(self) -> bool:
        """Nothing is under way in the sink: who waits, waits for the server."""
        return self._writing is None or self._writing.done()

    async def write(self, data: bytes) -> None:
        self.received += len(data)
        self._buffer += data
        if len(self._buffer) >= PIECE:
            await self._flush()

    async def finish(self) -> str:
        """Everything has reached the sink; returns the SHA-256 of it in hexadecimal."""
        await self._flush()
        await self._settled()
        return self._digest.hexdigest()

    async def abandon(self) -> None:
        """For whoever stopped in the middle: nothing of ours is still under way in the sink."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _flush(self) -> None:
        await self._settled()
        piece, self._buffer = bytes(self._buffer), bytearray()
        self._writing = asyncio.create_task(self._put(piece))

    async def _settled(self) -> None:
        if self._writing is not None:
            await self._writing

    async def _put(self, piece: bytes) -> None:
        await asyncio.to_thread(self._digest.update, piece)
        await self._sink(piece)
        self.bytes += len(piece)
