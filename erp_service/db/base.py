"""The base class of all tables, and the types of numeric columns."""

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, DateTime, MetaData, Numeric, func
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from erp_service.decimals import MONEY_SCALE, PRECISION, QUANTITY_SCALE


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
