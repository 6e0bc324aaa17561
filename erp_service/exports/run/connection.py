"""One connection that COPYs for an export, in a transaction that sees one snapshot."""

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg

from erp_service.db.connections import connect
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.exports.planning.selection import Query
from erp_service.exports.storage.base import Sink

_CLOSE_SECONDS = 0.5
_PLAN_SECONDS = 120.0
_LIMITS = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # during a sort or a wait, Postgres would not notice that our process has died
    "client_connection_check_interval": "5000",
    # also runs while we do not read: because the store is slow, or other ranges come first
    "tcp_user_timeout": "120000",
}
_BEGIN = "begin isolation level repeatable read read only"
# where several connections read at once, starting parallel workers for a short range costs more than it saves
_NO_PARALLEL_WORKERS = "set local max_parallel_workers_per_gather to 0"


class SnapshotConnection:
    """`close` it on every exit: that also stops a cancelled COPY in the server."""

    def __init__(self, connection: asyncpg.Connection, url: str, replica_at: datetime | None = None) -> None:
        self._connection = connection
        self._url = url
        self._replica_at = replica_at
        self.backend: int = connection.get_server_pid()

    @classmethod
    async def open(cls, url: str, *, leader: bool = True) -> "SnapshotConnection":
        return cls(await connect(url, name="erp export", leader=leader, **_LIMITS), url)

    @classmethod
    async def open_on_replica(cls, database: Database) -> "SnapshotConnection | None":
        """On a replica that has replayed everything committed by now; None if there is none."""
        replica = await database.connect_to_replica(name="erp export", **_LIMITS)
        return None if replica is None else cls(replica.connection, replica.url, replica.at)

    @property
    def on_replica(self) -> bool:
        return self._replica_at is not None

    async def open_another(self) -> "SnapshotConnection":
        """On the same server. Raises asyncpg.TooManyConnectionsError if it accepts no more."""
        return await self.open(self._url, leader=not self.on_replica)

    async def begin(self) -> datetime:
        """Take a snapshot, and return its time: it holds what was committed before."""
        await self._connection.execute(_BEGIN, timeout=_PLAN_SECONDS)
        # this statement takes the snapshot, after its timestamp: what was committed by then is in it
        at: datetime = await self.value("select statement_timestamp()")
        # a replica's own clock says nothing about what it has replayed
        return self._replica_at or at

    async def export(self) -> str:
        """The name under which others can `join` the snapshot, for as long as this transaction lasts."""
        await self._connection.execute(_NO_PARALLEL_WORKERS, timeout=_PLAN_SECONDS)
        name: str = await self.value("select pg_export_snapshot()")
        return name

    async def join(self, snapshot: str) -> None:
        statements = f"{_BEGIN}; set transaction snapshot '{snapshot}'; {_NO_PARALLEL_WORKERS}"
        await self._connection.execute(statements, timeout=_PLAN_SECONDS)

    async def value(self, sql: str, *arguments: Any) -> Any:
        return await self._connection.fetchval(sql, *arguments, timeout=_PLAN_SECONDS)

    async def copy(self, query: Query, sink: Sink, options: Mapping[str, str]) -> int:
        """`options` are those of asyncpg's `copy_from_query`; returns the rows that the server counted."""
        tag = await self._connection.copy_from_query(query.sql, *query.arguments, output=sink, **options)
        return int(tag.removeprefix("COPY "))

    async def close(self) -> None:
        with contextlib.suppress(*DATABASE_ERRORS):
            await self._connection.close(timeout=_CLOSE_SECONDS)
        self._connection.terminate()
