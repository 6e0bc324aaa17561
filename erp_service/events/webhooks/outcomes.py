"""What came of an attempt: the cursor moves, or the event blocks its endpoint, or the endpoint is switched off. Each
change contains the fence of lifecycle.py."""

from datetime import datetime

from sqlalchemy import text

from erp_service.access import principals
from erp_service.audit.record import record
from erp_service.audit.schemas import Event
from erp_service.db.sessions import AutocommitSession, WriteSession
from erp_service.db.statements import Prepared
from erp_service.events.webhooks.lifecycle import FENCE, UNBLOCKED, Claimed, Run, moved
from erp_service.events.webhooks.sending.retries import Retries
from erp_service.events.webhooks.sending.sender import Outcome
from erp_service.observability.telemetry import log

_WHO = principals.system("webhooks")

_LISTED = """insert into webhook_deliveries
      (webhook_id, position, type, attempt, status, error, milliseconds, response)
    select id, cast(:position as bigint), cast(:type as text), cast(:number as integer), cast(:status as integer),
      cast(:error as text), cast(:milliseconds as integer), cast(:response as text)"""
# one statement, so that it is a transaction without another round trip
_DELIVERED = Prepared(
    text(f"""
    with moved as (
      update webhooks set cursor = cast(:position as bigint), {UNBLOCKED}, last_success_at = clock_timestamp()
      where {FENCE} returning id, is_active and version = cast(:version as bigint) as goes_on
    ), listed as (
      {_LISTED} from moved
    )
    select goes_on from moved
""")  # noqa: S608 constants
)
# if the endpoint was deleted meanwhile, nothing is listed
_LIST = Prepared(
    text(f"{_LISTED} from (select id from webhooks where id = cast(:id as uuid) for key share) webhook")  # noqa: S608
)


def _attempt(claimed: Claimed, event: Event, outcome: Outcome) -> dict[str, object]:
    return {
        "id": claimed.run.webhook_id,
        "position": event.position,
        "type": event.type,
        "number": claimed.attempt_at(event.position),
        "status": outcome.status,
        "error": outcome.error,
        "milliseconds": outcome.milliseconds,
        "response": outcome.excerpt,
    }


async def record_success(db: AutocommitSession, claimed: Claimed, event: Event, outcome: Outcome) -> Claimed | None:
    """The cursor moves, and the attempt is listed. Returns what the run knows then; None if it must stop: somebody has
    changed the endpoint, or another run has it."""
    attempt = _attempt(claimed, event, outcome)
    parameters = {**attempt, **claimed.parameters(), "version": claimed.version}
    goes_on: bool | None = await db.scalar(_DELIVERED, parameters)
    if goes_on is None:
        # it was sent all the same
        await db.execute(_LIST, attempt)
    return moved(claimed, event.position) if goes_on else None


async def record_failure(db: WriteSession, claimed: Claimed, event: Event, outcome: Outcome, retries: Retries) -> None:
    """The attempt is listed, and the event blocks the endpoint."""
    await db.execute(_LIST, _attempt(claimed, event, outcome))
    await block(db, claimed, event.position, outcome, retries)


_LOCK = Prepared(
    text(f"""
    select is_active, version, blocked_since, clock_timestamp() as now from webhooks where {FENCE} for update
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
    # race: somebody changed the endpoint during the request. Perhaps it leads elsewhere now, and must not be judged by
    # what its former address answered
    if row is None or row.version != claimed.version:
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


_CURRENT = Prepared(
    text("""
    select url, types, cursor, version, failures, blocked_position from webhooks
    where id = cast(:id as uuid) and queue_job_id = cast(:job_id as bigint) and attempt = cast(:attempt as integer)
    for update
""")
)


async def postpone(db: WriteSession, run: Run, outcome: Outcome, retries: Retries) -> None:
    """The same for a fault that is of no event: it counts for the one that blocks, or else for the next position."""
    row = (await db.execute(_CURRENT, run.parameters())).one_or_none()
    if row is not None:
        claimed = Claimed(run, *row)
        await block(db, claimed, claimed.blocked_position or claimed.cursor + 1, outcome, retries)
