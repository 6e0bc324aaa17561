"""Keyset pagination: page 10,000 costs the same as page 1, and no row appears twice."""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Generic, NamedTuple, TypeAlias, TypeVar, TypeVarTuple
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy import ColumnElement, Integer, Select, Text, bindparam, literal, literal_column, tuple_
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import LRUCache

from erp_service import errors
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.errors import INTEGER_LIMIT, Fault

T = TypeVar("T", bound=msgspec.Struct)
P = TypeVar("P")
Ts = TypeVarTuple("Ts")

Column = InstrumentedAttribute[Any] | ColumnElement[Any]

_Shape: TypeAlias = tuple[str, bool, int, frozenset[str]]
"""The order, whether a page follows a cursor, the limit, the filters."""

_MOST_SHAPES = 1000  # of one list: of those by all limits, the ones in use


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
    computed: Callable[[ColumnElement[Any]], ColumnElement[Any]] | None = None

    @property
    def parameter(self) -> TypeEngine[Any]:
        """The type of a value that the column is compared with."""
        return Text() if self.computed else self.column.type


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


class Listing(Generic[T, P]):
    """A list that is asked for often: its statement is built and compiled once for each order, limit and filters.

    `filters` are conditions by the names of their parameters. `into` is the list's own Page class, and `make` builds an
    item from the selected columns. The first of `orders` is the default."""

    def __init__(
        self,
        select: Select[*tuple[Any, ...]],
        make: Callable[..., T],
        into: Callable[[list[T], str | None], P],
        orders: Mapping[str, SortOrder],
        filters: Mapping[str, ColumnElement[bool]],
    ) -> None:
        self._select, self._make, self._into = select, make, into
        self._orders, self._default, self._filters = orders, next(iter(orders)), filters
        self._statements: LRUCache[_Shape, Prepared] = LRUCache(_MOST_SHAPES)

    async def page(
        self, db: Session, parameters: Mapping[str, object], *, sort: str | None = None, limit: int, cursor: str | None
    ) -> P:
        """Up to `limit` rows after `cursor`. A filter whose parameter is None or False is left out.

        Raises errors.Invalid for `sort`, and for a cursor of another list or order."""
        sort = sort or self._default
        order = chosen(self._orders, sort, self._default)
        names = frozenset(n for n in self._filters if (value := parameters[n]) is not None and value is not False)
        values = dict(parameters)
        if cursor is not None:
            values |= {f"after_{n}": value for n, value in enumerate(_read(cursor, order.keys))}
        shape = sort, cursor is not None, limit, names
        if (statement := self._statements.get(shape)) is None:
            statement = self._statements[shape] = self._prepared(order, cursor is not None, limit, names)
        return _page(await db.execute(statement, values), self._make, order, limit, self._into)

    def _prepared(self, order: SortOrder, is_after: bool, limit: int, filters: frozenset[str]) -> Prepared:
        statement = self._select.where(*(self._filters[name] for name in sorted(filters)))
        after = [bindparam(f"after_{n}", type_=key.parameter) for n, key in enumerate(order.keys)] if is_after else None
        return Prepared(_ordered(statement, order, after, limit))


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
    """The same for a list that is asked for seldom: `select` has its filters inside."""
    after = None
    if cursor is not None:
        values = zip(_read(cursor, order.keys), order.keys, strict=True)
        after = [literal(value, key.parameter) for value, key in values]
    return _page(await db.execute(_ordered(select, order, after, limit)), make, order, limit, into)


def _ordered(
    select: Select[*Ts], order: SortOrder, after: Sequence[ColumnElement[Any]] | None, limit: int
) -> Select[*Ts]:
    columns = [key.column for key in order.keys]
    if after is not None:
        computed = [v if k.computed is None else k.computed(v) for v, k in zip(after, order.keys, strict=True)]
        values, row = tuple_(*computed), tuple_(*columns)
        if order.leading:
            select = select.where(columns[0] <= computed[0] if order.descending else columns[0] >= computed[0])
        select = select.where(row < values if order.descending else row > values)
    # A constant of the text. With a parameter, the planner would take a plan that it keeps for worse than one that it
    # makes anew for each request, which takes as long as the page itself.
    rows: ColumnElement[int] = literal_column(str(limit + 1), Integer)
    return select.order_by(*(c.desc() if order.descending else c.asc() for c in columns)).limit(rows)


def _page(
    rows: Iterable[Any],
    make: Callable[..., T],
    order: SortOrder,
    limit: int,
    into: Callable[[list[T], str | None], P],
) -> P:
    items = [make(*row) for row in rows]
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
    return values


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
