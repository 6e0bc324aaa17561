"""The base class of all tables, the types of numeric columns, and texts that compare alike on every server.

The last of them depend on no locale: identifiers compare byte by byte, and what is searched and sorted is computed by
functions of ours (migration 0012)."""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

from sqlalchemy import ARRAY, ColumnElement, Computed, DateTime, MetaData, Numeric, Text, any_, func, literal
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, MappedColumn, mapped_column
from sqlalchemy.types import TypeDecorator

from erp_service.decimals import MONEY_SCALE, PRECISION, QUANTITY_SCALE

T = TypeVar("T")


class Base(DeclarativeBase):
    """Every constraint has a name, by which errors.constraint finds its problem; every timestamp has a time zone."""

    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True)}

    metadata = MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        }
    )


class Exact(TypeDecorator[Decimal]):
    """A numeric column that is read in its shortest exact form: `12.5` from numeric(18,6).

    SQLAlchemy does not apply it to aggregates: write `func.trim_scale(func.sum(...))`."""

    impl = Numeric
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.trim_scale(column)


def quantity_column() -> Exact:
    return Exact(PRECISION, QUANTITY_SCALE)


def money_column() -> Exact:
    return Exact(PRECISION, MONEY_SCALE)


def by_bytes() -> Text:
    """Text that is compared and sorted byte by byte, which is the order of code points in UTF-8."""
    return Text(collation="C")


def search_column(*columns: str) -> MappedColumn[str]:
    """The texts of `columns`, without capitals and accents; see `has`."""
    # as Postgres writes it, since the models are compared with the migrated tables
    expression = " || '\n'::text || ".join(f"erp_fold({column})" for column in columns)
    return mapped_column(by_bytes(), Computed(expression, persisted=True))


def sort_key_column(column: str) -> MappedColumn[str]:
    """What the texts of `column` are sorted by, in the order in which people sort; see `sort_key`."""
    return mapped_column(by_bytes(), Computed(f"erp_sort_key({column})", persisted=True))


def among(column: InstrumentedAttribute[T], values: Collection[T]) -> ColumnElement[bool]:
    """Whether the column has one of the values. They are one parameter, an array: so unlike with `in_`, the text of the
    statement does not depend on how many they are."""
    return column == any_(literal(list(values), ARRAY(column.type)))


def has(search: InstrumentedAttribute[str] | ColumnElement[str], part: str | ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a text that was folded has this part, ignoring capitals and accents."""
    return func.strpos(search, func.erp_fold(part)) > 0


def sort_key(text: ColumnElement[str]) -> ColumnElement[str]:
    """The sort key of a text that is not stored: where a page begins."""
    return func.erp_sort_key(text)
