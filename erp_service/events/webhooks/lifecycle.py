"""Where the delivery to an endpoint stands. Each change is a compare-and-set that contains the fence.

A run is one attempt of one job of the queue. A run whose job has gone on to another worker changes nothing, learns so
from the result, and sends nothing more."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import text

from erp_service.access import principals
from erp_service.audit.record import record
from erp_service.audit.schemas import Event
from erp_service.db.sessions import Session, WriteSession
from erp_service.db.statements import Prepared
from erp_service.events.webhooks.queries import valid_secrets
from erp_service.events.webhooks.sending.retries import Retries
from erp_service.events.webhooks.sending.sender import Outcome
from erp_service.events.webhooks.sending.signing import Secret
from erp_service.observability.telemetry import log
from erp_service.queue.attempts import JobAttempt
from erp_service.queue.jobs import defer

TASK = "webhooks:deliver"
QUEUE = "webhooks"

_WHO = principals.system("webhooks")


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


_FENCE = """id = cast(:id as uuid) and queue_job_id = cast(:job_id as bigint) and attempt = cast(:attempt as integer)
  and cursor = cast(:cursor as bigint)"""
_UNBLOCKED = "failures = 0, blocked_position = null, blocked_since = null, next_attempt_at = null, last_error = null"

_DUE = Prepared(
    text("""
    select id from webhooks w
    where is_active and cursor < (select coalesce(max(position), 0) from trail)
      and (next_attempt_at is null or next_attempt_at <= clock_timestamp())
      and not exists (
        select from procrastinate_jobs job where job.id = w.queue_job_id and job.status in ('todo', 'doing'))
    order by next_attempt_at nulls last
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
    """Active endpoints behind the trail that no job delivers to, and whose pause is over."""
    return await db.scalars(_DUE)


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
_CURRENT = Prepared(
    text("""
    select url, types, cursor, version, failures, blocked_position from webhooks
    where id = cast(:id as uuid) and queue_job_id = cast(:job_id as bigint) and attempt = cast(:attempt as integer)
    for update
""")
)


async def claim(db: WriteSession, run: Run) -> Claimed | None:
    """None if another run has it, or nothing is to be sent now."""
    row = (await db.execute(_CLAIM, run.parameters())).one_or_none()
    if row is None:
        return None
    return msgspec.structs.replace(Claimed(run, *row), secrets=await valid_secrets(db, run.webhook_id))


_HOLD = Prepared(text(f"select version from webhooks where {_FENCE} for update"))  # noqa: S608 a constant


async def requeue(db: WriteSession, claimed: Claimed) -> None:
    """A new job goes on where this run stops, after those that wait already."""
    if await db.execute(_HOLD, claimed.parameters()):
        await enqueue(db, claimed.run.webhook_id)


_GOES_ON = "returning is_active and version = cast(:version as bigint) as goes_on"
_SKIP = Prepared(
    text(f"""
    update webhooks set cursor = cast(:position as bigint), {_UNBLOCKED} where {_FENCE} {_GOES_ON}
""")  # noqa: S608 constants
)


async def skip(db: WriteSession, claimed: Claimed, position: int) -> Claimed | None:
    """Nothing between its cursor and this position is of its types. None if the run must stop, as for
    `record_outcome`."""
    parameters = {**claimed.parameters(), "position": position, "version": claimed.version}
    return _moved(claimed, position) if await db.scalar(_SKIP, parameters) else None


def _moved(claimed: Claimed, position: int) -> Claimed:
    return msgspec.structs.replace(claimed, cursor=position, failures=0, blocked_position=None)


# if the endpoint was deleted meanwhile, nothing is listed
_LIST = Prepared(
    text("""
    insert into webhook_deliveries (webhook_id, position, type, attempt, status, error, milliseconds, response)
  select id, cast(:position as bigint), cast(:type as text), cast(:number as integer), cast(:status as integer),
    cast(:error as text), cast(:milliseconds as integer), cast(:response as text)
  from (select id from webhooks where id = cast(:id as uuid) for key share) webhook
""")
)
_DELIVERED = Prepared(
    text(f"""
    update webhooks set cursor = cast(:position as bigint), {_UNBLOCKED}, last_success_at = clock_timestamp()
    where {_FENCE} {_GOES_ON}
""")  # noqa: S608 constants
)


async def record_outcome(
    db: WriteSession, claimed: Claimed, event: Event, outcome: Outcome, retries: Retries
) -> Claimed | None:
    """What the run knows after one attempt; None if it must stop: the event was not taken, or somebody has changed the
    endpoint, or another run has it."""
    listed = {
        "id": claimed.run.webhook_id,
        "position": event.position,
        "type": event.type,
        "number": claimed.attempt_at(event.position),
        "status": outcome.status,
        "error": outcome.error,
        "milliseconds": outcome.milliseconds,
        "response": outcome.excerpt,
    }
    await db.execute(_LIST, listed)
    if not outcome.is_delivered:
        await block(db, claimed, event.position, outcome, retries)
        return None
    moved = {**claimed.parameters(), "position": event.position, "version": claimed.version}
    goes_on = await db.scalar(_DELIVERED, moved)
    return _moved(claimed, event.position) if goes_on else None


_LOCK = Prepared(
    text(f"""
    select is_active, blocked_since, clock_timestamp() as now from webhooks where {_FENCE} for update
""")  # noqa: S608 a constant
)
_BLOCK = Prepared(
    text("""
    update webhooks set failures = cast(:failures as integer), blocked_position = cast(:position as bigint),
      blocked_since = cast(:since as timestamptz), last_error = cast(:error as text),
      next_attempt_at = cast(:next as timestamptz)
    where id = cast(:id as uuid)
""")
)
_DISABLE = Prepared(
    text("""
    update webhooks set is_active = false, disabled_because = cast(:because as text), version = version + 1,
      updated_at = now()
    where id = cast(:id as uuid)
""")
)


async def block(db: WriteSession, claimed: Claimed, position: int, outcome: Outcome, retries: Retries) -> None:
    """The endpoint did not take the event: it is sent again later, and nothing after it before. After too long, or if
    the endpoint says that it is gone, it is switched off; the event is kept."""
    row = (await db.execute(_LOCK, claimed.parameters())).one_or_none()
    if row is None:
        return
    failures = claimed.attempt_at(position)
    since: datetime = row.now if failures == 1 or row.blocked_since is None else row.blocked_since
    following = retries.next_attempt(failures, since, row.now, outcome.retry_after)
    ends = outcome.is_gone or following is None
    id_ = claimed.run.webhook_id
    await db.execute(
        _BLOCK,
        {
            "id": id_,
            "failures": failures,
            "position": position,
            "since": since,
            "error": outcome.fault,
            "next": None if ends else following,
        },
    )
    if ends and row.is_active:
        because = "GONE" if outcome.is_gone else "FAILED"
        await db.execute(_DISABLE, {"id": id_, "because": because})
        log.warning("webhook switched off", webhook_id=str(id_), because=because, last_error=outcome.fault)
        after = {"is_active": False, "disabled_because": because, "last_error": outcome.fault}
        await record(db, _WHO, "webhook.disabled", id_, before={"is_active": True}, after=after)


async def postpone(db: WriteSession, run: Run, outcome: Outcome, retries: Retries) -> None:
    """The same for a fault that is of no event: it counts for the one that blocks, or else for the next position."""
    row = (await db.execute(_CURRENT, run.parameters())).one_or_none()
    if row is not None:
        claimed = Claimed(run, *row)
        await block(db, claimed, claimed.blocked_position or claimed.cursor + 1, outcome, retries)
