"""Every advisory lock of the service, so that no two of them share a key by accident.

The keys must never change: during a rolling release two versions run side by side, and a new key would let both into
what only one may do. So they keep the forms in which they were first written. A new lock takes the form of
LOCATION_TREE. Postgres keeps locks of one key and locks of two keys apart."""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy import TextClause, text

from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared


class AdvisoryLock(NamedTuple):
    """`keys` is SQL for the key or the two keys, and `values` are the parameters in it."""

    keys: str
    values: Mapping[str, int | str] = {}


MIGRATION = AdvisoryLock("727275")
"""One migrator at a time."""

ADMISSION = AdvisoryLock("727276")
"""One admission of exports to the queue at a time."""

USERS = AdvisoryLock("hashtext('erp users')")
"""One change at a time of what users may do. hashtext gives 32 bits."""

LOCATION_TREE = AdvisoryLock("hashtextextended('erp locations tree', 0)")
"""One change of the tree of locations at a time."""

ITEM_NAMES = AdvisoryLock("hashtextextended('erp items names', 0)")
"""One transaction at a time that gives names to several items: two would wait for names of each other."""

CLOSED_PERIOD = AdvisoryLock("hashtextextended('erp closed period', 0)")
"""Closing a period. Postings share it, by a trigger of the ledger (migration 0017)."""

TRAIL = AdvisoryLock("hashtextextended('erp trail', 0)")
"""One sealer of the trail in the cluster, for as long as its connection lasts."""

WEBHOOKS = AdvisoryLock("hashtextextended('erp webhooks', 0)")
"""One new webhook at a time."""

DEMO = AdvisoryLock("hashtextextended('erp demo', 0)")
"""One load of the demonstration data at a time."""


def schedules_of(user_id: int) -> AdvisoryLock:
    """One new schedule at a time for each user. Two users may share a lock, since a second key has only 32 bits."""
    return AdvisoryLock("727277, :user", {"user": user_id % 2**31})


def downloads_of(export_id: UUID, user_id: int) -> AdvisoryLock:
    """One record at a time of a user's downloads of an export."""
    return AdvisoryLock("hashtextextended(:download, :user)", {"download": f"download {export_id}", "user": user_id})


IDEMPOTENCY_KEY = "hashtextextended(:key, :user_id)"
TRY_IDEMPOTENCY_KEY = f"pg_try_advisory_xact_lock({IDEMPOTENCY_KEY})"
"""One request at a time with an Idempotency-Key of a user; without waiting: false if another has it. SQL, with its
parameters, for a statement that has more to do."""


async def take(db: WriteSession, lock: AdvisoryLock) -> None:
    """Wait for the lock; this transaction then holds it until it ends."""
    await db.execute(_statement(lock.keys), lock.values)


@cache
def _statement(keys: str) -> Prepared:
    return Prepared(text(f"select pg_advisory_xact_lock({keys})"))


async def try_hold(connection: asyncpg.Connection, lock: AdvisoryLock) -> bool:
    """Hold a lock without parameters for as long as the connection lasts; False if another connection does."""
    has_lock: bool = await connection.fetchval(f"select pg_try_advisory_lock({lock.keys})")
    return has_lock


def statement(lock: AdvisoryLock) -> TextClause:
    """What `take` runs, for Alembic, which has a synchronous connection."""
    return text(f"select pg_advisory_xact_lock({lock.keys})")


WORKER_CLASS = 0x45525077
"""The first key of the lock that each worker holds while it lives, "ERPw"; the second is the worker's id."""


async def hold_for_worker(connection: asyncpg.Connection, worker_id: int) -> None:
    """Hold the worker's lock for as long as the connection lasts."""
    # shared, so that a reconnect need not wait until Postgres notices that the last connection is dead
    await connection.execute("select pg_advisory_lock_shared($1::integer, $2::integer)", WORKER_CLASS, worker_id)


def is_held_for_worker(worker_id: str) -> str:
    """SQL that is true if a connection holds the lock of the worker whose id `worker_id`, itself SQL, is.

    It reads pg_locks and never tries to take the lock: a try that succeeded would look like life to the others."""
    return f"""exists (
        select from pg_locks where locktype = 'advisory' and granted and objsubid = 2
          and database = (select oid from pg_database where datname = current_database())
          and classid = {WORKER_CLASS}::oid and objid = {worker_id}::oid
    )"""  # noqa: S608 constants of the callers
