"""Writes an audit entry in the transaction of the change itself: both are committed, or neither."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import text

from erp_service.access.principals import Actor, Principal
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, text_array

INSERT_ENTRY = """
insert into audit_log
  (user_id, action, entity, entity_id, before, after, reason, request_id, address, on_behalf_of, actor,
   api_key_id)
values (
  cast(:audit_user_id as bigint), cast(:audit_action as text), cast(:audit_entity as text),
  cast(:audit_entity_id as text), cast(cast(:audit_before as text) as jsonb), cast(cast(:audit_after as text) as jsonb),
  cast(:audit_reason as text), cast(:audit_request_id as text), cast(:audit_address as text),
  cast(:audit_on_behalf_of as bigint), cast(:audit_actor as text), cast(:audit_api_key_id as bigint)
)
"""
"""The statement of `record`, for a writer that makes it a part of its own; `entry_parameters` are its parameters."""

_INSERT = Prepared(text(INSERT_ENTRY))

_INSERT_ALL = Prepared(
    text("""
insert into audit_log
  (user_id, action, entity, entity_id, before, after, reason, request_id, address, on_behalf_of, actor,
   api_key_id)
select e.user_id, e.action, e.entity, e.entity_id, e.before, e.after, e.reason, e.request_id, e.address,
  e.on_behalf_of, e.actor, e.api_key_id
from unnest(
  cast(cast(:audit_user_id as text) as bigint[]), cast(cast(:audit_action as text) as text[]),
  cast(cast(:audit_entity as text) as text[]), cast(cast(:audit_entity_id as text) as text[]),
  cast(cast(:audit_before as text) as jsonb[]), cast(cast(:audit_after as text) as jsonb[]),
  cast(cast(:audit_reason as text) as text[]), cast(cast(:audit_request_id as text) as text[]),
  cast(cast(:audit_address as text) as text[]), cast(cast(:audit_on_behalf_of as text) as bigint[]),
  cast(cast(:audit_actor as text) as text[]), cast(cast(:audit_api_key_id as text) as bigint[])
) with ordinality e
  (user_id, action, entity, entity_id, before, after, reason, request_id, address, on_behalf_of, actor,
  api_key_id, number)
order by e.number
""")
)


async def record(
    db: WriteSession,
    who: Principal,
    action: str,
    entity_id: object,
    *,
    before: msgspec.Struct | dict[str, Any] | None = None,
    after: msgspec.Struct | dict[str, Any] | None = None,
    reason: str | None = None,
    on_behalf_of: int | None = None,
) -> None:
    """`action` is `entity.verb` in the past tense, such as `item.created`, and is declared as an event type of its
    feature. `on_behalf_of` is the user whose object it is, where that may be another than the one who acts. Never pass
    a secret in `before` or `after`."""
    parameters = entry_parameters(
        who, action, entity_id, before=before, after=after, reason=reason, on_behalf_of=on_behalf_of
    )
    await db.execute(_INSERT, parameters)


async def record_all(db: WriteSession, entries: Sequence[Mapping[str, object]]) -> None:
    """One entry or several by one statement; each is what `entry_parameters` returns."""
    columns = {name: [None if entry[name] is None else str(entry[name]) for entry in entries] for name in entries[0]}
    await db.execute(_INSERT_ALL, {name: text_array(values) for name, values in columns.items()})


def entry_parameters(
    who: Principal,
    action: str,
    entity_id: object,
    *,
    before: msgspec.Struct | dict[str, Any] | None = None,
    after: msgspec.Struct | dict[str, Any] | None = None,
    reason: str | None = None,
    on_behalf_of: int | None = None,
) -> dict[str, object]:
    """The parameters of INSERT_ENTRY; the arguments are those of `record`."""
    actor = who.actor or Actor(who.user_id)
    owner = who.user_id if on_behalf_of is None else on_behalf_of
    return {
        "audit_user_id": actor.user_id,
        "audit_action": action,
        "audit_entity": action.partition(".")[0],
        "audit_entity_id": str(entity_id),
        "audit_before": _json(before),
        "audit_after": _json(after),
        "audit_reason": reason,
        "audit_request_id": who.request_id,
        "audit_address": who.address,
        "audit_on_behalf_of": None if owner == actor.user_id else owner,
        "audit_actor": actor.name,
        "audit_api_key_id": None if who.key is None else who.key.id,
    }


def _json(values: msgspec.Struct | dict[str, Any] | None) -> str | None:
    return None if values is None else msgspec.json.encode(values).decode()
