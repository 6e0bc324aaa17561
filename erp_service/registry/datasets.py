"""How a feature describes a dataset that can be exported: its columns, filters and sorts, as constants.

All SQL in a dataset is constant and holds no `$` and no line break: COPY takes no parameters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.errors import INTEGER_LIMIT

ColumnType = Literal["integer", "decimal", "text", "timestamp", "boolean", "uuid", "json"]
FilterValue = str | int | bool
Value = str | int | bool | datetime


class Column(NamedTuple):
    """`digits`: of a decimal, its precision and its scale as Postgres counts them."""

    name: str
    type: ColumnType
    sql: str
    description: str
    digits: tuple[int, int] = (38, 6)


class Filter(NamedTuple):
    """A query parameter of the dataset's list endpoint. `{}` in `sql` stands for the value.

    With `lifts`, `sql` is a condition that applies unless the filter is true."""

    name: str
    read: Callable[[FilterValue], Value]
    sql: str
    description: str
    lifts: bool = False


class Dataset(NamedTuple):
    """`role` is the least that may read it, and `scope` what an API key needs to do so.

    `sorts` maps a name to the expression to sort by; `key` is unique, ends every order, and is the default order.

    `source` begins with the table of the key. The key's first part is an integer that is never null."""

    name: str
    description: str
    role: Role
    scope: Scope
    columns: Sequence[Column]
    source: str
    key: Sequence[str]
    filters: Sequence[Filter] = ()
    sorts: Mapping[str, str] = {}

    @property
    def table(self) -> str:
        """The table of the key, with its alias."""
        return " ".join(self.source.split()[:2])


# How filters read their values: each raises ValueError that says what is wrong.


def an_id(value: FilterValue) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= INTEGER_LIMIT:
        raise ValueError(f"must be a whole number from 1 to {INTEGER_LIMIT}")
    return value


def some_text(value: FilterValue) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 200:
        raise ValueError("must be a text of 1 to 200 characters")
    return value


def a_flag(value: FilterValue) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def a_time(value: FilterValue) -> datetime:
    try:
        # COPY gets it in UTC, where some times of the years 1 and 9999 lie outside of them
        return msgspec.convert(value, _Time).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise ValueError("must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z, or a date") from None


_Time = Annotated[datetime, Meta(tz=True)]


@dataclass(frozen=True)
class OneOf:
    """Reads one of some texts."""

    choices: tuple[str, ...]

    def __call__(self, value: FilterValue) -> str:
        if value not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        return str(value)


def one_of(*choices: str) -> OneOf:
    return OneOf(choices)


def kind_of(read: Callable[[FilterValue], Any]) -> str:
    """The type of a filter's value, as the catalogue names it."""
    kinds: dict[Any, str] = {an_id: "integer", a_flag: "boolean", a_time: "timestamp"}
    return kinds.get(read, "text")


def choices_of(read: Callable[[FilterValue], Any]) -> list[str] | None:
    """What a filter of one of some texts can be; None for every other."""
    return list(read.choices) if isinstance(read, OneOf) else None


def deleted_filter(condition: str) -> Filter:
    return Filter("include_deleted", a_flag, condition, "true: the deleted ones too", lifts=True)


def search_filter(folded: str, *names: str) -> Filter:
    """`folded` is a column, or an expression, of the texts called `names`, without capitals and accents."""
    about = f"a part of {' or '.join(names)}, ignoring capitals and accents"
    return Filter("q", some_text, f"strpos({folded}, erp_fold({{}})) > 0", about)
