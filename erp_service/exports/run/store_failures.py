"""A store that does not answer, or is not the right one for this worker: the export waits for the store, or for another
worker, before it fails."""

import contextlib
import errno

from erp_service.db.backoff import Backoff
from erp_service.errors import Refused
from erp_service.exports import lifecycle
from erp_service.exports.admission import running_per_user
from erp_service.exports.context import ExportContext
from erp_service.exports.lifecycle import Run
from erp_service.exports.problems import StoreFull, StoreUnavailable, StoreUnknown
from erp_service.exports.storage.base import FileKey, Store
from erp_service.exports.storage.registry import mismatch
from erp_service.observability.telemetry import log

# Attempts, whose pauses add up to about seven minutes and to an hour. StoreUnknown gets the longer time because only
# some of the workers may have the right store, and those may be busy.
MOST_ATTEMPTS: dict[type[Refused], int] = {StoreUnavailable: 12, StoreUnknown: 65}
_PAUSES = Backoff(first=1, longest=60)  # seconds


class StoreRetry(Exception):
    """The export waits in the queue again, for the store."""


def pause(attempt: int) -> int:
    """Seconds between this attempt, counted from 1, and the next one."""
    return int(_PAUSES.after(attempt))


async def require_known_store(exports: ExportContext) -> None:
    """Raises StoreUnknown; OSError if the store does not answer."""
    async with exports.database.read() as db:
        fault = await mismatch(db, exports.database, exports.store)
    if fault is not None:
        raise StoreUnknown(fault)


def problem_of(exc: Exception) -> Refused | None:
    """The problem for an error of the store; None if the error is not about the store."""
    if isinstance(exc, StoreUnknown):
        return exc
    if not isinstance(exc, OSError):
        return None
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull()
    return StoreUnavailable(f"The last answer was: {exc.strerror}." if exc.strerror else None)


async def requeue(exports: ExportContext, run: Run, key: FileKey, why: Refused) -> None:
    """Raises StoreRetry once the export waits again; returns if it has waited long enough, or waiting does not help."""
    if run.attempt >= MOST_ATTEMPTS.get(type(why), 0):
        return
    await remove(exports.store, key)
    async with exports.database.write() as db:
        await lifecycle.requeue(db, run, most_running=await running_per_user(db))
    log.warning("the export waits for the store", type=why.slug, fault=why.detail)
    raise StoreRetry(why.detail or why.title)


async def remove(store: Store, key: FileKey) -> None:
    """Remove what an attempt left. If the store does not answer, housekeeping does it later."""
    with contextlib.suppress(OSError):
        await store.delete(key)
