"""What a dataset is, and how a request for one becomes SQL: constants of the catalogue, the caller's values apart.

COPY takes no parameters. So its text is built of the catalogue's constants only, none of which holds a `$n`, and the
caller's values go as arguments to asyncpg's `copy_from_query`, which quotes them by the types the server says.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from erp_service import errors
from erp_service.errors import Fault
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.registry.datasets import Column, ColumnType, Dataset, FilterValue, Value

# What the type needs so that the text is the contract's: shortest numbers, RFC 3339 in UTC, JSON's booleans.
# Independent of the session's settings: psql and we, wherever, write the same bytes.
_AS_TEXT: Mapping[ColumnType, str] = {
    "decimal": "trim_scale({})",
    "timestamp": """to_char({} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
    "boolean": "({})::text",
    "json": "({})::text",
}


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What exactly was asked for, as kept in the job's row. No columns means all of them.

    `datasets` are those that the dataset `all` stood for when it was submitted."""

    columns: list[str] | None = None
    filter: dict[str, FilterValue] = {}
    sort: str | None = None
    csv: CsvOptions | None = None
    filename: str | None = None
    datasets: list[str] | None = None

    @property
    def options(self) -> CsvOptions:
        return self.csv or CsvOptions()


class OrderKey(NamedTuple):
    """The rows are in the order of `column`, the first part of the key of `table`, which is given with its alias."""

    table: str
    column: str
    descending: bool


class Query(NamedTuple):
    """Constants with `$1`, `$2` ... for `arguments`; `columns` are those that were asked for.

    `key` is there if the order is the key's, so that ranges of it can be read apart."""

    selected: str
    conditions: tuple[str, ...]
    order: str
    arguments: tuple[Value, ...]
    columns: tuple[Column, ...]
    key: OrderKey | None = None

    @property
    def sql(self) -> str:
        """One line."""
        where = f" where {' and '.join(self.conditions)}" if self.conditions else ""
        return f"{self.selected}{where} order by {self.order}"

    def between(self, low: int | None, high: int | None) -> "Query":
        """The rows whose key's first part is at least `low` and below `high`; None is without a bound."""
        conditions, arguments = list(self.conditions), list(self.arguments)
        for compared, bound in ((">=", low), ("<", high)):
            if self.key is not None and bound is not None:
                arguments.append(bound)
                conditions.append(f"{self.key.column} {compared} ${len(arguments)}")
        return self._replace(conditions=tuple(conditions), arguments=tuple(arguments))


def as_text(column: Column) -> str:
    """The contract's text of the value."""
    return _AS_TEXT.get(column.type, "{}").format(column.sql)


def text_select_list(columns: Sequence[Column], _options: CsvOptions | None = None) -> str:
    """The select list that gives every value as its text."""
    return ", ".join(f"{as_text(column)} as {column.name}" for column in columns)


def query(
    dataset: Dataset, spec: Spec, select: Callable[[Sequence[Column], CsvOptions], str] = text_select_list
) -> Query:
    """`select` renders the values. Raises errors.Invalid that names every column, filter, value and sort that is not
    the dataset's."""
    faults: list[Fault] = []
    columns = _columns(dataset, spec, faults)
    conditions, arguments = _conditions(dataset, spec, faults)
    order = _order(dataset, spec, faults)
    if faults:
        raise errors.Invalid(None, *faults)
    selected = f"select {select(columns, spec.options)} from {dataset.source}"  # noqa: S608 constants, see the module
    return Query(selected, tuple(conditions), order, tuple(arguments), columns, _order_key(dataset, spec))


def psql_text(dataset: Dataset) -> str:
    """What to give to psql's `\\copy (...) to FILE csv header` for the same bytes as an export of everything."""
    return query(dataset, Spec()).sql


def _columns(dataset: Dataset, spec: Spec, faults: list[Fault]) -> tuple[Column, ...]:
    if spec.columns is None:
        return tuple(dataset.columns)
    known = {column.name: column for column in dataset.columns}
    for index, name in enumerate(spec.columns):
        if name not in known:
            faults.append(Fault(f"is not one of {', '.join(known)}", pointer=f"/columns/{index}"))
        elif name in spec.columns[:index]:
            faults.append(Fault("stands here twice", pointer=f"/columns/{index}"))
    return tuple(known[name] for name in spec.columns if name in known)


def _conditions(dataset: Dataset, spec: Spec, faults: list[Fault]) -> tuple[list[str], list[Value]]:
    conditions: list[str] = []
    arguments: list[Value] = []
    values = dict(_values(dataset, spec, faults))
    for known in dataset.filters:
        value = values.get(known.name)
        if known.lifts:
            if value is not True:
                conditions.append(known.sql)
        elif value is not None:
            arguments.append(value)
            conditions.append(known.sql.replace("{}", f"${len(arguments)}"))
    return conditions, arguments


def _values(dataset: Dataset, spec: Spec, faults: list[Fault]) -> Iterator[tuple[str, Value]]:
    known = {found.name: found for found in dataset.filters}
    for name, value in spec.filter.items():
        pointer = f"/filter/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in known:
            faults.append(Fault(f"is not one of the filters here: {', '.join(known)}", pointer=pointer))
            continue
        try:
            yield name, known[name].read(value)
        except ValueError as exc:
            faults.append(Fault(f"is not a value of this filter: it {exc}", pointer=pointer))


def _order(dataset: Dataset, spec: Spec, faults: list[Fault]) -> str:
    key = ", ".join(dataset.key)
    if spec.sort is None:
        return key
    name = spec.sort.removeprefix("-")
    if name not in dataset.sorts:
        known = ", ".join(both for known in dataset.sorts for both in (known, f"-{known}"))
        faults.append(Fault(f"is not one of {known or 'the sorts here: there is none'}", pointer="/sort"))
        return key
    down = " desc" if spec.sort.startswith("-") else ""
    following = "".join(f", {part}{down}" for part in dataset.key if part != dataset.sorts[name])
    return f"{dataset.sorts[name]}{down}{following}"


def _order_key(dataset: Dataset, spec: Spec) -> OrderKey | None:
    column = dataset.key[0]
    name = (spec.sort or "").removeprefix("-")
    if spec.sort is not None and dataset.sorts[name] != column:
        return None
    return OrderKey(dataset.table, column, descending=(spec.sort or "").startswith("-"))
