"""A store that does not answer, or is not the right one in this worker: the export waits for it, or for another worker,
before it fails."""

import contextlib
import errno

from erp_service.db.engine import Database
from erp_service.errors import Refused
from erp_service.exports import lifecycle
from erp_service.exports.lifecycle import Run
from erp_service.exports.problems import StoreFull, StoreUnavailable, StoreUnknown
from erp_service.exports.storage.base import FileKey, Store
from erp_service.exports.storage.registry import difference
from erp_service.observability.telemetry import log

# attempts, whose pauses come to about seven minutes and an hour: of workers some may have the right store, and those
# may have their hands full
MOST_ATTEMPTS: dict[type[Refused], int] = {StoreUnavailable: 12, StoreUnknown: 65}
_LONGEST_PAUSE = 60


class StoreAway(Exception):
    """The export waits in the queue again."""


def pause(attempt: int) -> int:
    """Seconds between this attempt, counted from 1, and the next one."""
    return min(1 << min(attempt - 1, 10), _LONGEST_PAUSE)


async def check(database: Database, store: Store) -> None:
    """Raises StoreUnknown; OSError if the store does not answer."""
    async with database.read() as db:
        fault = await difference(db, database, store)
    if fault is not None:
        raise StoreUnknown(fault)


def fault_of(exc: Exception) -> Refused | None:
    """What an error says of the store, as a problem; None if it is of something else."""
    if isinstance(exc, StoreUnknown):
        return exc
    if not isinstance(exc, OSError):
        return None
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull()
    return StoreUnavailable(f"The last answer was: {exc.strerror}." if exc.strerror else None)


async def put_back(
    database: Database, store: Store, run: Run, key: FileKey, why: Refused, *, most_running: int
) -> None:
    """Raises StoreAway once the export waits again; returns if it has waited long enough, or waiting does not help."""
    if run.attempt >= MOST_ATTEMPTS.get(type(why), 0):
        return
    await remove(store, key)
    async with database.write() as db:
        await lifecycle.requeue(db, run, most_running=most_running)
    log.warning("the export waits for the store", type=why.slug, fault=why.detail)
    raise StoreAway(why.detail or why.title)


async def remove(store: Store, key: FileKey) -> None:
    """What an attempt left, if the store answers; else it is the upkeep's."""
    with contextlib.suppress(OSError):
        await store.delete(key)
