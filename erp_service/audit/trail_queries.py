"""Reads of the trail: events in the order of their positions, and seals."""

from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import text

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.audit.schemas import Event
from erp_service.audit.sealing.chain import START
from erp_service.db.sessions import Row, Session
from erp_service.db.statements import Prepared, text_array
from erp_service.features import FEATURES
from erp_service.registry.event_data import EventData
from erp_service.registry.feature import load

WINDOW = 5_000
"""Positions that one statement looks at: what is rare among millions is searched for in short statements."""

MOST_CHANGED = 50
"""Names of changed fields in one event."""


class Scan(Struct, frozen=True):
    """Events in ascending order. Whoever has them has seen everything up to `last_position`, and there is nothing more
    if that is `head`. `first` is the first position that is kept."""

    events: list[Event]
    last_position: int
    first: int
    head: int


def known_types() -> frozenset[str]:
    """Every type of event."""
    return frozenset(name for feature in FEATURES for types in feature.event_types for name in types.names)


def readable_types(role: Role, has_scope: Callable[[Scope], bool]) -> frozenset[str]:
    """The types of events that somebody with this role, and these scopes, may hear of."""
    return frozenset(
        name
        for feature in FEATURES
        for types in feature.event_types
        if role.includes(types.role) and has_scope(types.scope)
        for name in types.names
    )


PRUNED_THROUGH = """
select coalesce((
  select (a.after ->> 'position')::bigint from audit_log a left join trail t on t.audit_id = a.id
  where a.action = 'audit.pruned' and (
    -- or so new that it has none yet
    t.position is not null
    or a.id > (select through from trail where audit_id is not null order by position desc limit 1)
  )
  order by a.id desc limit 1
), 0)
"""
"""SQL of the position up to which audit entries were removed on purpose, as the newest record of that says; 0 if none
were."""

_HEAD = Prepared(text("select coalesce(max(position), 0) from trail"))


async def head_position(db: Session) -> int:
    """The last position; 0 if there is none."""
    position: int = await db.scalar(_HEAD)
    return position


_LINK = Prepared(text("select encode(link, 'hex') from trail where position = :position"))


async def link_at(db: Session, position: int) -> str | None:
    """The link of a position in hexadecimal, which no other position and no other trail has; None if there is none."""
    link: str | None = START.hex() if position == 0 else await db.scalar(_LINK, {"position": position})
    return link


async def scan(
    db: Session, position: int, *, limit: int, types: Collection[str] | None = None, window: int = WINDOW
) -> Scan:
    """The next events after the position, of these types or of all, in order: among the next `window` positions."""
    rows = await db.execute(
        _scan(),
        {
            "after": position,
            "window": window,
            # one more, so that it is known whether there are others in the window
            "limit": limit + 1,
            "types": None if types is None else text_array(sorted(types)),
        },
    )
    found = [_event(row) for row in rows if row.position is not None]
    bound = rows[0]
    if len(found) > limit:
        return Scan(found[:limit], found[limit - 1].position, bound.first, bound.head)
    return Scan(found, bound.last_position, bound.first, bound.head)


@cache
def _scan() -> Prepared:
    data = "".join(
        f" when a.action in ({', '.join(map(repr, part.types))}) then ({part.sql})::text"
        for part in load(FEATURES, "event_data", EventData)
    )
    # positions have no gaps, so the window ends at a known one
    return Prepared(
        text(f"""
with kept as materialized (
  select ({PRUNED_THROUGH}) + 1 as first, (select coalesce(max(position), 0) from trail) as head
), bound as materialized (
  select first, head,
    least(cast(:after as bigint) + cast(:window as bigint), greatest(cast(:after as bigint), head)) as last_position
  from kept
)
select bound.last_position, bound.first, bound.head, found.* from bound left join lateral (
  select t.position, a.action, a.entity, a.entity_id, a.at, a.before::text as before, a.after::text as after,
    case{data} end as data
  from trail t join audit_log a on a.id = t.audit_id
  where t.position > cast(:after as bigint) and t.position <= bound.last_position
    and (cast(:types as text) is null or a.action = any(cast(cast(:types as text) as text[])))
  order by t.position limit cast(:limit as bigint)
) found on true
order by found.position
""")  # noqa: S608 constants of the features
    )


def _event(row: Row) -> Event:
    before, after = _decoded(row.before), _decoded(row.after)
    data = {name: value for name, value in (before | after).items() if _is_thin(name, value)}
    if before and after:
        names = sorted({*before, *after} - _ALWAYS_CHANGED)
        data["changed"] = [name for name in names if before.get(name) != after.get(name)][:MOST_CHANGED]
    return Event(row.position, row.action, f"{row.entity}/{row.entity_id}", data | _decoded(row.data), row.at)


_ALWAYS_CHANGED = frozenset({"version", "updated_at"})
_LONGEST_ID = 200


def _is_thin(name: str, value: object) -> bool:
    """Whether it is an id or a version, and not some long text that is only called so."""
    return (name in ("id", "version") or name.endswith("_id")) and (
        isinstance(value, int) or (isinstance(value, str) and len(value) <= _LONGEST_ID)
    )


def _decoded(values: str | None) -> dict[str, Any]:
    return {} if values is None else msgspec.json.decode(values, type=dict[str, Any])
