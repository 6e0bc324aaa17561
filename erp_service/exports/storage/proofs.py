"""The proof that the store holds the files that clients may download now, byte for byte."""

import hashlib
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from erp_service.exports.models import Status
from erp_service.exports.storage.base import FileKey, Missing, Store
from erp_service.exports.storage.registry import open_store
from erp_service.registry.proofs import MOST_ROWS, Finding, Judge, SlowProof
from erp_service.settings import Settings

_NAME = "export files"
_HOLDS = "the store holds each export's file as it was published"
_STORE = "select database_id || '/' || store_id from export_store"
_FILES = """
select id, file_key, result_bytes, sha256 from export_jobs
where status = $1 and expires_at > now() and file_key is not null order by id
"""
_STILL = "select exists (select from export_jobs where id = $1 and status = $2 and expires_at > now())"


class ExportFile(msgspec.Struct, frozen=True):
    """A file that clients may download now, as the database describes it."""

    job_id: UUID
    file_key: str
    bytes: int
    sha256: str


async def prepare(db: asyncpg.Connection, settings: Settings) -> Judge:
    """Raises SettingsError for a store of no known kind."""
    store = open_store(settings)
    identity = await db.fetchval(_STORE)
    files = [ExportFile(*row) for row in await db.fetch(_FILES, Status.SUCCEEDED)]

    async def judge(db: asyncpg.Connection) -> Finding | None:
        try:
            return await _finding(db, store, identity, files) if files else None
        finally:
            await store.close()

    return judge


async def _finding(
    db: asyncpg.Connection, store: Store, identity: str | None, files: list[ExportFile]
) -> Finding | None:
    wrong: list[dict[str, Any]] = []
    total = 0
    try:
        if (actual := await store.identity()) != identity:
            identities = {"store": actual, "expected": identity}
            return Finding(_NAME, "the export store is the one the database knows", (identities,), len(files))
        for file in files:
            fault = await _fault(store, file)
            # the file may have expired, or been deleted, since the list was read
            if fault and await db.fetchval(_STILL, file.job_id, Status.SUCCEEDED):
                total += 1
                if total <= MOST_ROWS:
                    wrong.append({"export": file.job_id, "file": file.file_key, "fault": fault})
    except OSError as exc:
        unavailable = {"fault": exc.strerror or str(exc)}
        return Finding(_NAME, "the export store can be read", (unavailable,), len(files))
    return Finding(_NAME, _HOLDS, tuple(wrong), total) if total else None


async def _fault(store: Store, file: ExportFile) -> str | None:
    if (key := FileKey.read(file.file_key)) is None:
        return "its name is none of an export"
    if (size := await store.size(key)) is None:
        return "it is not there"
    if size != file.bytes:
        return f"it has {size} bytes instead of {file.bytes}"
    digest = hashlib.sha256()
    try:
        async for piece in store.read(key, 0, file.bytes):
            digest.update(piece)
    except Missing:
        return "it is not there"
    return None if digest.hexdigest() == file.sha256 else f"its sha256 is {digest.hexdigest()}, not {file.sha256}"


PROOFS = (SlowProof(_NAME, _HOLDS, prepare),)
