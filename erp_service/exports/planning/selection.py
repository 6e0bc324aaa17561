"""How a request for a dataset becomes SQL: constants of the catalogue, with the caller's values kept apart.

COPY takes no parameters. Its text therefore consists of the catalogue's constants only, none of which holds a `$n`, and
the caller's values pass as arguments to asyncpg's `copy_from_query`, which quotes them by the types the server names.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from erp_service import errors
from erp_service.errors import Fault
from erp_service.exports.formats.base import FileOptions, Options, Times
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.formats.text_values import text_select_list
from erp_service.registry.datasets import Column, Dataset, FilterValue, Value


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a request that depends on the dataset, as the job's row keeps it. No columns means all of them.

    `datasets` are those that the dataset `all` meant when it was submitted. No `timezone` is UTC; if the request has
    none, that of its schedule is `filename_timezone`. With `plain_times` a CSV has local times without an offset."""

    columns: list[str] | None = None
    filter: dict[str, FilterValue] = {}
    sort: str | None = None
    csv: CsvOptions | None = None
    filename: str | None = None
    datasets: list[str] | None = None
    timezone: str | None = None
    plain_times: bool = False
    filename_timezone: str | None = None

    @property
    def options(self) -> FileOptions:
        times = Times(self.timezone or "UTC", self.plain_times)
        return FileOptions(**msgspec.structs.asdict(self.csv or CsvOptions()), times=times)


class OrderKey(NamedTuple):
    """The rows are ordered by `column`, the first column of the key of `table`, which is given with its alias."""

    table: str
    column: str
    descending: bool


class Query(NamedTuple):
    """A statement of constants with `$1`, `$2` ... for `arguments`; `columns` are the requested ones.

    `key` is set if the order is that of the key, so that ranges of it can be read apart."""

    selected: str
    conditions: tuple[str, ...]
    order: str
    arguments: tuple[Value, ...]
    columns: tuple[Column, ...]
    key: OrderKey | None = None

    @property
    def sql(self) -> str:
        """Without a line break."""
        where = f" where {' and '.join(self.conditions)}" if self.conditions else ""
        return f"{self.selected}{where} order by {self.order}"

    def between(self, low: int | None, high: int | None) -> "Query":
        """The rows whose `key.column` is at least `low` and below `high`; None means no bound."""
        conditions, arguments = list(self.conditions), list(self.arguments)
        for comparison, bound in ((">=", low), ("<", high)):
            if self.key is not None and bound is not None:
                arguments.append(bound)
                conditions.append(f"{self.key.column} {comparison} ${len(arguments)}")
        return self._replace(conditions=tuple(conditions), arguments=tuple(arguments))


def query(dataset: Dataset, spec: Spec, select: Callable[[Sequence[Column], Options], str] = text_select_list) -> Query:
    """`select` renders the values. Raises errors.Invalid that names every column, filter, value and sort that the
    dataset does not have."""
    faults: list[Fault] = []
    columns = _columns(dataset, spec, faults)
    conditions, arguments = _conditions(dataset, spec, faults)
    order = _order(dataset, spec, faults)
    if faults:
        raise errors.Invalid(None, *faults)
    selected = f"select {select(columns, spec.options)} from {dataset.source}"  # noqa: S608 constants, see the module
    return Query(selected, tuple(conditions), order, tuple(arguments), columns, _order_key(dataset, spec))


def psql_text(dataset: Dataset) -> str:
    """For psql: `\\copy (...) to FILE csv header` with this query writes the same bytes as an export of everything."""
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
    known = {each.name: each for each in dataset.filters}
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
        known = ", ".join(sort for name in dataset.sorts for sort in (name, f"-{name}"))
        faults.append(Fault(f"is not one of {known or 'the sorts here: there is none'}", pointer="/sort"))
        return key
    direction = " desc" if spec.sort.startswith("-") else ""
    following = "".join(f", {part}{direction}" for part in dataset.key if part != dataset.sorts[name])
    return f"{dataset.sorts[name]}{direction}{following}"


def _order_key(dataset: Dataset, spec: Spec) -> OrderKey | None:
    column = dataset.key[0]
    name = (spec.sort or "").removeprefix("-")
    if spec.sort is not None and dataset.sorts[name] != column:
        return None
    return OrderKey(dataset.table, column, descending=(spec.sort or "").startswith("-"))
