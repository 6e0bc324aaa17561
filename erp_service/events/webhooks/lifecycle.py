"""Where the delivery to an endpoint stands. Each change is a compare-and-set that contains the fence.

A run is one attempt of one job of the queue. A run whose job has gone on to another worker changes nothing, learns so
from the result, and sends nothing more."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import text

from erp_service.db.sessions import Session, WriteSession
from erp_service.db.statements import Prepared
from erp_service.events.webhooks.queries import valid_secrets
from erp_service.events.webhooks.sending.signing import Secret
from erp_service.queue.attempts import JobAttempt
from erp_service.queue.jobs import defer

TASK = "webhooks:deliver"
QUEUE = "webhooks"

MOST_RETRYING = 4
"""Endpoints that took nothing at their last attempt, and are tried again at once: so those that are away, and keep a
slot until the time limit of each request, leave slots to all others."""


class Run(Struct, frozen=True):
    """One attempt of the job that delivers to an endpoint."""

    webhook_id: UUID
    job: JobAttempt

    def parameters(self) -> dict[str, object]:
        return {"id": self.webhook_id, "job_id": self.job.job_id, "attempt": self.job.attempt}


class Claimed(Struct, frozen=True):
    """An endpoint as its run knows it. `failures` are those of the event at `blocked_position`."""

    run: Run
    url: str
    types: Sequence[str] | None
    cursor: int
    version: int
    failures: int
    blocked_position: int | None
    secrets: Sequence[Secret] = ()

    def attempt_at(self, position: int) -> int:
        """The number of the next attempt to deliver this event; counts from 1."""
        return self.failures + 1 if position == self.blocked_position else 1

    def parameters(self) -> dict[str, object]:
        """What the fence compares."""
        return {**self.run.parameters(), "cursor": self.cursor}


FENCE = """id = cast(:id as uuid) and queue_job_id = cast(:job_id as bigint) and attempt = cast(:attempt as integer)
  and cursor = cast(:cursor as bigint)"""
"""Whether the endpoint still belongs to a run and is where the run has left it; see `Claimed.parameters`."""

UNBLOCKED = "failures = 0, blocked_position = null, blocked_since = null, next_attempt_at = null, last_error = null"

_DUE = Prepared(
    text("""
    with state as (
      select w.*, failures > 0 as retries, exists (
          select from procrastinate_jobs job where job.id = w.queue_job_id and job.status in ('todo', 'doing')
        ) as has_job
      from webhooks w
    ), ranked as (
      select id, retries, row_number() over (partition by retries order by next_attempt_at, id) as place from state
      where is_active and not has_job and cursor < (select coalesce(max(position), 0) from trail)
        and (next_attempt_at is null or next_attempt_at <= clock_timestamp())
    )
    select id from ranked
    where not retries or place <= cast(:most as integer) - (select count(*) from state where retries and has_job)
    order by retries, place
""")
)
_LOCK_DUE = Prepared(
    text("""
    select cursor, types from webhooks w
    where id = cast(:id as uuid) and is_active
      and (next_attempt_at is null or next_attempt_at <= clock_timestamp())
      and not exists (
        select from procrastinate_jobs job where job.id = w.queue_job_id and job.status in ('todo', 'doing'))
    for update skip locked
""")
)


class Due(Struct, frozen=True):
    """An endpoint for which a job may be needed: nobody else looks at it before the transaction ends."""

    id: UUID
    cursor: int
    types: Sequence[str] | None


async def due_webhooks(db: Session) -> Sequence[UUID]:
    """Active endpoints behind the trail that no job delivers to, and whose pause is over; first those that took
    everything, then as many others as may be tried again at once."""
    return await db.scalars(_DUE, {"most": MOST_RETRYING})


async def lock_due(db: WriteSession, webhook_id: UUID) -> Due | None:
    """None if another worker looks at it, or it is not due any more."""
    row = (await db.execute(_LOCK_DUE, {"id": webhook_id})).one_or_none()
    return None if row is None else Due(webhook_id, row.cursor, row.types)


_SKIP_UNCLAIMED = Prepared(text("update webhooks set cursor = cast(:position as bigint) where id = cast(:id as uuid)"))


async def skip_unclaimed(db: WriteSession, due: Due, position: int) -> None:
    """Nothing up to this position is of its types."""
    await db.execute(_SKIP_UNCLAIMED, {"id": due.id, "position": position})


_GIVE = Prepared(
    text("""
    update webhooks set queue_job_id = cast(:job_id as bigint), attempt = 0 where id = cast(:id as uuid)
""")
)


async def enqueue(db: WriteSession, webhook_id: UUID) -> None:
    """Give the endpoint, whose row is locked, a job; from now on no other may deliver to it."""
    job_id = await defer(db, TASK, queue=QUEUE, arguments={"webhook_id": str(webhook_id)}, lock=f"webhook:{webhook_id}")
    await db.execute(_GIVE, {"id": webhook_id, "job_id": job_id})


_CLAIM = Prepared(
    text("""
    update webhooks set attempt = cast(:attempt as integer)
    where id = cast(:id as uuid) and queue_job_id = cast(:job_id as bigint) and attempt < cast(:attempt as integer)
      and is_active and (next_attempt_at is null or next_attempt_at <= clock_timestamp())
    returning url, types, cursor, version, failures, blocked_position
""")
)


async def claim(db: WriteSession, run: Run) -> Claimed | None:
    """None if another run has it, or nothing is to be sent now."""
    row = (await db.execute(_CLAIM, run.parameters())).one_or_none()
    if row is None:
        return None
    return msgspec.structs.replace(Claimed(run, *row), secrets=await valid_secrets(db, run.webhook_id))


_HOLD = Prepared(text(f"select version from webhooks where {FENCE} for update"))  # noqa: S608 a constant


async def requeue(db: WriteSession, claimed: Claimed) -> None:
    """A new job goes on where this run stops, after those that wait already."""
    if await db.execute(_HOLD, claimed.parameters()):
        await enqueue(db, claimed.run.webhook_id)


_SKIP = Prepared(
    text(f"""
    update webhooks set cursor = cast(:position as bigint), {UNBLOCKED} where {FENCE}
    returning is_active and version = cast(:version as bigint) as goes_on
""")  # noqa: S608 constants
)


async def skip(db: WriteSession, claimed: Claimed, position: int) -> Claimed | None:
    """Nothing between its cursor and this position is of its types. None if the run must stop, as for
    `record_success`."""
    parameters = {**claimed.parameters(), "position": position, "version": claimed.version}
    return moved(claimed, position) if await db.scalar(_SKIP, parameters) else None


def moved(claimed: Claimed, position: int) -> Claimed:
    return msgspec.structs.replace(claimed, cursor=position, failures=0, blocked_position=None)
