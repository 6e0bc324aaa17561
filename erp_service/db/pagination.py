"""Keyset pagination: page 10,000 costs the same as page 1, and no row appears twice."""

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, TypeVarTuple
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from erp_service import errors
from erp_service.db.sessions import Session
from erp_service.errors import INTEGER_LIMIT, Fault

T = TypeVar("T", bound=msgspec.Struct)
P = TypeVar("P")
Ts = TypeVarTuple("Ts")

Column = InstrumentedAttribute[Any] | ColumnElement[Any]


class Page(msgspec.Struct, Generic[T]):
    """`next_cursor` is null on the last page.

    Each list has its own subclass, `class ItemPage(Page[ItemOut])`, which repeats `items: list[ItemOut]`. Without that
    the OpenAPI document would not describe the items."""

    items: Annotated[list[T], Meta(description="what is on this page")]
    next_cursor: Annotated[str | None, Meta(description="for `cursor` of the next page; null on the last")]


class SortKey(NamedTuple):
    """A column to sort by, and the field of the response that has its value. The last key of an order is unique.

    `computed` makes the column's value of the field's, if they differ: names are sorted by a key that is not shown."""

    column: Column
    field: str
    kind: type[int] | type[str] | type[date] | type[datetime] | type[UUID]
    computed: Callable[[Any], ColumnElement[Any]] | None = None


class SortOrder(NamedTuple):
    """`leading` is for keys that belong to several tables. No index has all of them, so the first key is compared by
    itself as well: an index on it finds where the page begins."""

    keys: Sequence[SortKey]
    descending: bool = False
    leading: bool = False


def orders(keys: Mapping[str, SortKey], unique: SortKey) -> dict[str, SortOrder]:
    """The values of `?sort=`: each name for ascending order and, with a minus before it, for descending order."""
    known = {}
    for name, key in keys.items():
        both = [key] if key == unique else [key, unique]
        known[name] = SortOrder(both)
        known[f"-{name}"] = SortOrder(both, descending=True)
    return known


def chosen(known: Mapping[str, SortOrder], sort: str | None, default: str) -> SortOrder:
    """The order that `?sort=` names; raises errors.Invalid, which lists the known ones."""
    if (order := known.get(sort or default)) is None:
        raise errors.Invalid(None, Fault(f"is not one of {', '.join(sorted(known))}", parameter="sort"))
    return order


async def page(
    db: Session,
    select: Select[*Ts],
    make: Callable[[*Ts], T],
    order: SortOrder,
    *,
    limit: int,
    cursor: str | None,
    into: Callable[[list[T], str | None], P],
) -> P:
    """Up to `limit` rows after `cursor`, in `order`. `make` builds an item from the selected columns.

    `into` is the list's own Page class. Raises errors.Invalid for a cursor of another list or order."""
    columns = [key.column for key in order.keys]
    if cursor is not None:
        values = _read(cursor, order.keys)
        after, row = tuple_(*values), tuple_(*columns)
        if order.leading:
            select = select.where(columns[0] <= values[0] if order.descending else columns[0] >= values[0])
        select = select.where(row < after if order.descending else row > after)
    select = select.order_by(*(c.desc() if order.descending else c.asc() for c in columns)).limit(limit + 1)
    items = [make(*row) for row in await db.execute(select)]
    more = len(items) > limit
    del items[limit:]
    return into(items, _write(items[-1], order.keys) if more else None)


def _write(item: msgspec.Struct, keys: Sequence[SortKey]) -> str:
    values = msgspec.json.encode([[key.field for key in keys], [getattr(item, key.field) for key in keys]])
    return base64.urlsafe_b64encode(values).rstrip(b"=").decode()


def _read(cursor: str, keys: Sequence[SortKey]) -> list[Any]:
    """The values of the keys; raises errors.Invalid for what `_write` did not write."""
    try:
        text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        names, raw = msgspec.json.decode(text, type=tuple[list[str], list[Any]])
        if names != [key.field for key in keys]:
            raise ValueError("of another list or order")
        values = [_as_written(msgspec.convert(value, key.kind)) for value, key in zip(raw, keys, strict=True)]
    except (ValueError, OverflowError, msgspec.MsgspecError):
        fault = Fault(
            "is not a cursor of this list: send `next_cursor` of the page before, unchanged", parameter="cursor"
        )
        raise errors.Invalid(None, fault) from None
    return [value if key.computed is None else key.computed(value) for value, key in zip(values, keys, strict=True)]


def _as_written(value: Any) -> Any:
    """Raises ValueError for a value that the database would refuse."""
    match value:
        case str() if "\0" in value:
            raise ValueError("NUL")
        case int() if abs(value) > INTEGER_LIMIT:
            raise ValueError("too large")
        case datetime(tzinfo=None):
            raise ValueError("no zone")
        case datetime():
            return value.astimezone(UTC)
    return value
