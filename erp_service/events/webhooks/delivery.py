"""Delivering events: in order for each endpoint, at least once, and to each endpoint as if there were no other.

Whatever was delivered is recorded in the same transaction that moves the cursor. A worker that dies between the answer
and that commit leaves the event to the next one, which sends it again under the same `webhook-id`. While a request is
on its way, no connection to the database is held."""

from datetime import UTC, datetime
from time import monotonic
from uuid import UUID

from erp_service.audit.schemas import Event
from erp_service.audit.trail_queries import Scan, scan
from erp_service.db.outages import is_unavailable
from erp_service.events.webhooks import lifecycle, metrics, outcomes
from erp_service.events.webhooks.context import Slice, WebhookContext
from erp_service.events.webhooks.lifecycle import Claimed, Run
from erp_service.events.webhooks.messages import body_of, types_of
from erp_service.events.webhooks.sending import signing, targets
from erp_service.events.webhooks.sending.sender import Channel, Outcome
from erp_service.observability.telemetry import log
from erp_service.registry.background import BackgroundStep
from erp_service.registry.services import ServiceSet

_FAULT_OF_OURS = "a fault of this service, whose log says more"


async def deliver(context: WebhookContext, run: Run) -> None:
    """Deliver what is there, for as long as one job may. Raises what the database raises while it is unavailable."""
    async with context.database.write() as db:
        claimed = await lifecycle.claim(db, run)
    if claimed is None:
        return
    try:
        async with context.sender.channel(targets.parse(claimed.url)) as channel:
            await _deliver_all(context, claimed, channel)
    except Exception as exc:
        if is_unavailable(exc):
            raise
        # without a pause, the next job would come to the same point a second later, again and again
        log.exception("delivery to a webhook failed")
        async with context.database.write() as db:
            await outcomes.postpone(db, run, Outcome(0, error=_FAULT_OF_OURS), context.retries)


async def _deliver_all(context: WebhookContext, claimed: Claimed, channel: Channel) -> None:
    turn = _Turn(context.slice)
    last: Claimed | None = claimed
    while last is not None and not turn.is_over():
        claimed = last
        step = await scan(
            context.database.reader, claimed.cursor, limit=context.slice.batch, types=types_of(claimed.types)
        )
        if step.last_position == claimed.cursor:
            return
        last = await _deliver_step(context, claimed, channel, step, turn)
    if last is not None:
        async with context.database.write() as db:
            await lifecycle.requeue(db, last)


async def _deliver_step(
    context: WebhookContext, claimed: Claimed, channel: Channel, step: Scan, turn: "_Turn"
) -> Claimed | None:
    """What the run knows when the turn, or the step, is over; None if the run must stop."""
    for event in step.events:
        if turn.is_over():
            return claimed
        outcome = await _post(channel, claimed, event)
        metrics.count(outcome)
        turn.events += 1
        if not outcome.is_delivered:
            async with context.database.write() as db:
                await outcomes.record_failure(db, claimed, event, outcome, context.retries)
            return None
        async with context.database.autocommit() as single:
            after = await outcomes.record_success(single, claimed, event, outcome)
        if after is None:
            return None
        claimed = after
    if step.last_position == claimed.cursor:
        return claimed
    async with context.database.write() as db:
        return await lifecycle.skip(db, claimed, step.last_position)


class _Turn:
    """How far one job may go, until others have their turn."""

    def __init__(self, most: Slice) -> None:
        self.events = 0
        self._most_events, self._end = most.events, monotonic() + most.seconds

    def is_over(self) -> bool:
        return self.events >= self._most_events or monotonic() >= self._end


async def _post(channel: Channel, claimed: Claimed, event: Event) -> Outcome:
    body = body_of(event)
    id_ = signing.message_id(claimed.run.webhook_id, event.position, event.at)
    return await channel.post(signing.headers(id_, datetime.now(UTC), body, claimed.secrets), body)


async def start_due(context: WebhookContext) -> None:
    """Give a job to each endpoint for which there are events, whose pause is over, and which has none.

    Each worker looks about once a second, so whatever was missed (a job that failed, a worker that died) is made good
    by the next look. One transaction for each endpoint finds it and gives it the job."""
    for webhook_id in await lifecycle.due_webhooks(context.database.reader):
        await _start(context, webhook_id)


async def _start(context: WebhookContext, webhook_id: UUID) -> None:
    async with context.database.write() as db:
        due = await lifecycle.lock_due(db, webhook_id)
        if due is None:
            return
        step = await scan(db, due.cursor, limit=1, types=types_of(due.types))
        # what is rare among many is for the job to find
        if step.events or step.last_position < step.head:
            await lifecycle.enqueue(db, webhook_id)
        else:
            await lifecycle.skip_unclaimed(db, due, step.last_position)


async def _start_due(services: ServiceSet) -> None:
    await start_due(services.find(WebhookContext))


BACKGROUND = (BackgroundStep("deliver to webhooks", _start_due),)
