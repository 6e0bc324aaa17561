"""Sessions: a connection, and what it may be used for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from erp_service.db.connections import SessionConnection
from erp_service.db.outages import NotReplicated
from erp_service.db.pool import Pool
from erp_service.db.statements import NO_PARAMETERS, Parameters, Statement, sql_of
from erp_service.observability import telemetry


class Row(asyncpg.Record):  # type: ignore[misc] # asyncpg has no types
    """One row: a sequence of its values, which have the names of the columns as keys and as attributes."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Rows(list[Row]):
    """The rows of a statement, all of them in memory."""

    def one(self) -> Row:
        """Raises ValueError unless there is exactly one."""
        (row,) = self
        return row

    def one_or_none(self) -> Row | None:
        """Raises ValueError if there are several."""
        return self.one() if self else None


class Session:
    """One connection. Statements are SQLAlchemy's, with values inside or beside them, by name; or SQL with `$1`, `$2`.

    Raises what asyncpg raises: see db/outages.py."""

    __slots__ = ("driver",)

    def __init__(self, driver: asyncpg.Connection) -> None:
        self.driver = driver

    async def execute(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> Rows:
        sql = sql_of(statement, parameters)
        return await self.fetch(sql.text, *sql.arguments)

    async def scalar(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> Any:
        """The first value of the first row; None if there is no row."""
        sql = sql_of(statement, parameters)
        return await self.fetch_value(sql.text, *sql.arguments)

    async def scalars(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
        """The first value of each row."""
        return [row[0] for row in await self.execute(statement, parameters)]

    async def row_count(self, statement: Statement, parameters: Parameters = NO_PARAMETERS) -> int:
        """How many rows a statement without RETURNING has changed."""
        sql = sql_of(statement, parameters)
        return int((await self.run(sql.text, *sql.arguments)).rpartition(" ")[2])

    async def fetch(self, text: str, *arguments: object) -> Rows:
        return Rows(await self._call(asyncpg.Connection.fetch, text, *arguments))

    async def fetch_value(self, text: str, *arguments: object) -> Any:
        return await self._call(asyncpg.Connection.fetchval, text, *arguments)

    async def run(self, text: str, *arguments: object) -> str:
        """Several statements at once, if there are no arguments. Returns the tag of the last, such as `UPDATE 3`."""
        tag: str = await self._call(asyncpg.Connection.execute, text, *arguments)
        return tag

    async def _call(self, method: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        return await method(self.driver, *arguments)


class ReadSession(Session):
    """Autocommit: each statement sees what is committed when it starts. May be a replica. Never writes."""

    __slots__ = ()


class PoolReadSession(ReadSession):
    """The same without a connection of its own: each statement takes one from the pool, and gives it back before its
    rows are looked at. So it needs no end, and whatever a request does between its statements holds nothing."""

    __slots__ = ("_pool",)

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def _call(self, method: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        return await self._pool.call(method, *arguments)


class AutocommitSession(Session):
    """On the primary: each statement is a transaction of its own, and may write. For counts that stay, whatever happens
    to the request: those of rate limits."""

    __slots__ = ()


class WriteSession(Session):
    """One transaction on the primary, committed before the answer starts."""

    __slots__ = ()
    driver: SessionConnection

    async def commit(self) -> None:
        """Raises InFailedSQLTransactionError if nothing was committed, and NotReplicated if only this server has it.

        With synchronous replication a COMMIT waits for a standby. A cancellation ends the wait and does not undo the
        commit: Postgres answers COMMIT, with a warning. On a leader that was cut off, that must never count as an
        acknowledgement, since the next leader does not have it."""
        self.driver.warned = False
        if await self.driver.execute("commit") != "COMMIT":
            # an error that the body caught has ended the transaction, and Postgres answers "ROLLBACK"
            raise asyncpg.InFailedSQLTransactionError("nothing was committed: a statement had failed")
        if self.driver.warned:
            telemetry.unreplicated_commits.inc()
            raise NotReplicated("committed on one server, and confirmed by no standby")

    async def commit_replicated(self) -> None:
        """Commit, and with it make sure of all that was committed before: also of what a leader that was cut off shows
        after a restart, although no standby has confirmed it. Raises as `commit`."""
        # a record in the WAL, since a transaction that writes nothing does not wait
        await self.run("select pg_logical_emit_message(true, 'erp', '')")
        await self.commit()

    @asynccontextmanager
    async def savepoint(self, *, keep: bool = True) -> AsyncIterator[None]:
        """What fails inside is undone, and the transaction goes on. Without `keep`, all that is done inside is undone.

        Savepoints inside each other may have the same name: the last one counts."""
        await self.run("savepoint inside")
        try:
            yield
        except Exception:
            # the connection may be gone
            if not self.driver.is_closed():
                await self.run("rollback to savepoint inside; release savepoint inside")
            raise
        undo = "" if keep else "rollback to savepoint inside; "
        await self.run(f"{undo}release savepoint inside")
