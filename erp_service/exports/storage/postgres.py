"""The database as the store, where instances share no directory: files as chunks of bytea."""

import contextlib
import errno
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

from sqlalchemy import TextClause, select, text

from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS, DISK_FULL, is_unavailable, sqlstate_of
from erp_service.exports.models import ExportStore
from erp_service.exports.storage.base import FileHeaders, FileKey, Method, Missing, Sink, StoredFile

CHUNK = 1024 * 1024
_LISTED = 500
_DELETED = 64  # chunks in one transaction

_BEGIN = text("insert into export_files (name) values (:name) on conflict do nothing")
# Not waiting for the disk is safe here: publishing waits, and the log that it waits for contains all chunks before it.
# `for share` waits for a deletion that has begun, and then appends nothing; a later deletion waits for `for share`, and
# then deletes this chunk too.
_APPEND = text("""
    with relaxed as (select set_config('synchronous_commit', 'off', true)),
    file as (select name from export_files where name = :name and state = 'writing' for share)
    insert into export_chunks (name, number, data) select name, :number, :data from file, relaxed
""")
_PUBLISH = text("""
    update export_files set state = 'whole', bytes = :bytes, written_at = clock_timestamp()
    where name = :name and state = 'writing'
""")
_SIZE = text("select bytes from export_files where name = :name and state = 'whole'")
_READ = text("""
    select substring(data from :start for :length) from export_chunks
    where name = :name and number = :number
      and exists (select from export_files where name = :name and state = 'whole')
""")
_MARK_DELETING = text("update export_files set state = 'deleting' where name = :name")
_DELETE_CHUNKS = text("""
    delete from export_chunks where name = :name and number in (
      select number from export_chunks where name = :name order by number limit :most)
""")
_DELETE_FILE = text("delete from export_files where name = :name and state = 'deleting'")
_LIST = text("""
    select name, state, written_at, case state when 'whole' then bytes else (
      select coalesce(sum(octet_length(data)), 0) from export_chunks c where c.name = f.name) end as bytes
    from export_files f where name > :after order by name limit :most
""")


class PostgresStore:
    """Implements storage.base.Store. Each piece is a transaction of its own, and its connection returns to the pool at
    once: an export of an hour holds back no vacuum, and a slow download occupies no connection."""

    def __init__(self, database: Database, *, listed: int = _LISTED, deleted: int = _DELETED) -> None:
        """`database` is closed with the store. Lists `listed` files and deletes `deleted` chunks in one statement."""
        self._database = database
        self._listed, self._deleted = listed, deleted

    @contextlib.asynccontextmanager
    async def writing(self, key: FileKey, headers: FileHeaders | None = None) -> AsyncIterator[Sink]:
        if not await _changed(self._database, _BEGIN, name=str(key)):
            raise FileExistsError(errno.EEXIST, "another writes this attempt's file", str(key))
        file = _Upload(self._database, str(key))
        try:
            yield file.write
            await file.publish()
        except BaseException:
            # during an outage, housekeeping removes the rest later; the caller needs the first error
            with contextlib.suppress(OSError):
                await self.delete(key)
            raise

    async def size(self, key: FileKey) -> int | None:
        with _translated():
            async with self._database.read() as db:
                size: int | None = await db.scalar(_SIZE, {"name": str(key)})
                return size

    async def read(self, key: FileKey, start: int, stop: int) -> AsyncIterator[bytes]:
        while start < stop:
            number, offset = divmod(start, CHUNK)
            length = min(stop - start, CHUNK - offset)
            # substring counts from 1
            values = {"name": str(key), "number": number, "start": offset + 1, "length": length}
            with _translated():
                async with self._database.read() as db:
                    piece = await db.scalar(_READ, values)
            if piece is None or len(piece) != length:
                raise Missing(str(key))
            start += length
            yield piece

    async def address(self, key: FileKey, method: Method) -> str | None:
        return None

    async def delete(self, key: FileKey) -> None:
        await _changed(self._database, _MARK_DELETING, name=str(key))
        while await _changed(self._database, _DELETE_CHUNKS, name=str(key), most=self._deleted):
            pass
        await _changed(self._database, _DELETE_FILE, name=str(key))

    async def list_files(self) -> AsyncIterator[StoredFile]:
        after = ""
        while True:
            with _translated():
                async with self._database.read() as db:
                    rows = await db.execute(_LIST, {"after": after, "most": self._listed})
            for name, state, written_at, size in rows:
                after = name
                if (key := FileKey.read(name)) is not None:
                    yield StoredFile(key, int(size), written_at, whole=state == "whole")
            if len(rows) < self._listed:
                return

    async def identity(self) -> str | None:
        """Made from the database's id alone. A copy of the database has the same one, and the files too."""
        with _translated():
            async with self._database.read() as db:
                database_id: UUID = await db.scalar(select(ExportStore.database_id))
                return f"{database_id}/{database_id}"

    async def claim(self, identity: str) -> str:
        return await self.identity() or identity

    async def close(self) -> None:
        await self._database.close()


class _Upload:
    """Cuts a stream into chunks. Buffers less than two of them."""

    def __init__(self, database: Database, name: str) -> None:
        self._database, self._name = database, name
        self._buffer = bytearray()
        self._number = self._bytes = 0

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = CHUNK - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == CHUNK:
                await self._append()

    async def publish(self) -> None:
        if self._buffer:
            await self._append()
        if not await _changed(self._database, _PUBLISH, name=self._name, bytes=self._bytes):
            raise self._removed()

    async def _append(self) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        if not await _changed(self._database, _APPEND, name=self._name, number=self._number, data=data):
            raise self._removed()
        self._number += 1
        self._bytes += len(data)

    def _removed(self) -> OSError:
        return FileNotFoundError(errno.ENOENT, "the file was removed while it was written", self._name)


async def _changed(database: Database, statement: TextClause, **values: object) -> int:
    """Run the statement in a transaction of its own; returns the number of rows."""
    with _translated():
        async with database.write() as db:
            return await db.row_count(statement, values)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raises OSError for a database that is full, and ConnectionError for one that is unavailable.

    Every other error of the database is a fault of ours, and is raised as it is."""
    try:
        yield
    except DATABASE_ERRORS as exc:
        if sqlstate_of(exc) == DISK_FULL:
            raise OSError(errno.ENOSPC, "the database's disk is full") from exc
        if is_unavailable(exc) and not isinstance(exc, ConnectionError):
            raise ConnectionError("the database is unavailable") from exc
        raise
