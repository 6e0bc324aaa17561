"""What an ADMIN does with webhooks. Each in the caller's transaction; delivery.py sends.

Webhooks belong to the company, and not to whoever made them: one that a shop depends on does not end when a person
leaves. So nobody makes one that is told of more than they may read themselves."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.audit.trail_queries import head_position, known_types, readable_types, scan
from erp_service.db import locks
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared
from erp_service.errors import Fault
from erp_service.events.problems import EventsGone
from erp_service.events.webhooks.messages import all_types
from erp_service.events.webhooks.models import Webhook
from erp_service.events.webhooks.problems import TooManyWebhooks, WebhookExists
from erp_service.events.webhooks.queries import webhook_by_id
from erp_service.events.webhooks.schemas import WebhookBody, WebhookOut
from erp_service.events.webhooks.sending import signing, targets
from erp_service.events.webhooks.sending.sender import Sender
from erp_service.events.webhooks.sending.signing import Secret

MOST_WEBHOOKS = 20
MOST_SECRETS = 4
OVERLAP_HOURS = 24
"""For how long a secret is valid after the next one was made."""

_UNBLOCKED = {
    "failures": 0,
    "blocked_position": None,
    "blocked_since": None,
    "next_attempt_at": None,
    "last_error": None,
}
_WRITABLE = ("url", "types", "description", "is_active")


class Created(Struct, frozen=True):
    """A new webhook, and the secret that its maker gets to see."""

    webhook: WebhookOut
    secret: Secret


async def create(db: WriteSession, who: Principal, sender: Sender, body: WebhookBody) -> Created:
    """It is told of what is sealed from now on. Raises errors.Invalid, WebhookExists, TooManyWebhooks."""
    _check(who, sender, body.url, body.types)
    # one at a time: two at once would each be the last one allowed
    await locks.take(db, locks.WEBHOOKS)
    if (await db.scalar(select(func.count()).select_from(Webhook)) or 0) >= MOST_WEBHOOKS:
        raise TooManyWebhooks(f"There may be {MOST_WEBHOOKS}.")
    values = {name: getattr(body, name) for name in _WRITABLE}
    webhook_id = uuid7()
    new = insert(Webhook).values(id=webhook_id, created_by=who.user_id, cursor=await head_position(db), **values)
    if not await db.execute(new.on_conflict_do_nothing(index_elements=[Webhook.url]).returning(Webhook.id)):
        raise await _exists(db, body.url)
    secret = await _add_secret(db, webhook_id)
    await record(db, who, "webhook.created", webhook_id, after=values)
    return Created(await webhook_by_id(db, webhook_id), secret)


async def change(db: WriteSession, who: Principal, sender: Sender, before: WebhookOut, body: WebhookBody) -> WebhookOut:
    """A body that changes nothing leaves no trace. After any other than of the description, what blocked it is tried
    again at once.

    Raises errors.Invalid, WebhookExists."""
    values = {name: value for name in _WRITABLE if (value := getattr(body, name)) != getattr(before, name)}
    if not values:
        return before
    after = msgspec.structs.replace(before, **values)
    # whoever changes where events go must be allowed to read them; anybody may switch one off, also one whose address
    # is not allowed any more
    if {"url", "types"} & values.keys() or values.get("is_active"):
        _check(who, sender, after.url, after.types)
    others = select(Webhook.id).where(Webhook.url == after.url, Webhook.id != before.id)
    if "url" in values and await db.execute(others):
        raise await _exists(db, after.url)
    state = {} if values.keys() == {"description"} else {**_UNBLOCKED, "disabled_because": None}
    await _update(db, before.id, **values, **state)
    old = {name: getattr(before, name) for name in values}
    await record(db, who, "webhook.updated", before.id, before=old, after=values)
    return await webhook_by_id(db, before.id)


async def remove(db: WriteSession, who: Principal, before: WebhookOut) -> None:
    """With its secrets and the list of its deliveries."""
    await db.execute(text("delete from webhooks where id = :id"), {"id": before.id})
    old = {name: getattr(before, name) for name in (*_WRITABLE, "cursor")}
    await record(db, who, "webhook.deleted", before.id, before=old)


_END_SECRETS = Prepared(
    text("""
    update webhook_secrets set valid_until = now() + make_interval(hours => cast(:hours as integer))
    where webhook_id = cast(:id as uuid) and valid_until is null returning valid_until
""")
)
# of several rotations in a day the newest secrets stay, so that an answer that was lost locks nobody out
_FORGET_SECRETS = Prepared(
    text("""
    delete from webhook_secrets where webhook_id = cast(:id as uuid) and (valid_until <= now() or id not in (
      select id from webhook_secrets where webhook_id = cast(:id as uuid)
      order by id desc limit cast(:most as integer)
    ))
""")
)


async def rotate_secret(db: WriteSession, who: Principal, before: WebhookOut) -> tuple[Secret, datetime]:
    """The new secret, and until when the one before it is valid."""
    (ended,) = await db.execute(_END_SECRETS, {"id": before.id, "hours": OVERLAP_HOURS})
    secret = await _add_secret(db, before.id)
    await db.execute(_FORGET_SECRETS, {"id": before.id, "most": MOST_SECRETS})
    await _update(db, before.id)
    after = {"previous_valid_until": ended.valid_until}
    await record(db, who, "webhook.secret_rotated", before.id, after=after)
    return secret, ended.valid_until


async def replay(db: WriteSession, who: Principal, before: WebhookOut, from_position: int | None) -> WebhookOut:
    """Go on at a position, and switch it on. Raises errors.Invalid for one that is too far ahead, and EventsGone."""
    cursor = before.cursor if from_position is None else from_position - 1
    kept = await scan(db, cursor, limit=1)
    if cursor > kept.head:
        raise errors.Invalid(None, Fault(f"is after the next position, {kept.head + 1}", pointer="/from_position"))
    if cursor < kept.first - 1:
        raise EventsGone(f"The first event that is kept is {kept.first}.", first_position=kept.first)
    await _update(db, before.id, cursor=cursor, is_active=True, disabled_because=None, **_UNBLOCKED)
    old = {"cursor": before.cursor, "is_active": before.is_active}
    await record(db, who, "webhook.replayed", before.id, before=old, after={"cursor": cursor, "is_active": True})
    return await webhook_by_id(db, before.id)


def _check(who: Principal, sender: Sender, url: str, types: Sequence[str] | None) -> None:
    """Raises errors.Invalid, which names every fault."""
    faults = list(_type_faults(who, types))
    why = targets.fault(targets.parse(url), sender.allowed, plain_http=sender.plain_http)
    if why is not None:
        faults.append(Fault(why, pointer="/url"))
    if faults:
        raise errors.Invalid(None, *faults)


def _type_faults(who: Principal, types: Sequence[str] | None) -> list[Fault]:
    known, readable = known_types(), readable_types(who.role, who.has_scope)
    if types is None:
        if all_types() <= readable:
            return []
        return [Fault("you may not read every type of event: name those that it needs", pointer="/types")]
    faults = []
    for index, name in enumerate(types):
        if name not in known:
            faults.append(Fault("is not one of the types of events", pointer=f"/types/{index}"))
        elif name not in readable:
            faults.append(Fault("is a type of event that you may not read", pointer=f"/types/{index}"))
        elif name in types[:index]:
            faults.append(Fault("stands here twice", pointer=f"/types/{index}"))
    return faults


async def _exists(db: WriteSession, url: str) -> WebhookExists:
    present: UUID | None = await db.scalar(select(Webhook.id).where(Webhook.url == url))
    return WebhookExists(f"Webhook {present} has this address.", webhook_id=UNSET if present is None else present)


async def _add_secret(db: WriteSession, webhook_id: UUID) -> Secret:
    secret = signing.new_secret()
    statement = text("insert into webhook_secrets (webhook_id, secret) values (:id, :secret)")
    await db.execute(statement, {"id": webhook_id, "secret": bytes(secret)})
    return secret


async def _update(db: WriteSession, webhook_id: UUID, **values: object) -> None:
    """A job that delivers to it sees the new version after the event in hand, and stops."""
    changed = update(Webhook).where(Webhook.id == webhook_id).values(**values)
    await db.execute(changed.values(version=Webhook.version + 1, updated_at=func.now()))
