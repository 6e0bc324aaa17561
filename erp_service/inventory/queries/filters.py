"""Conditions that the lists share."""

from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute


def equal(*pairs: tuple[InstrumentedAttribute[Any], object]) -> list[ColumnElement[bool]]:
    """`column = value` for each pair; a value of None sets no condition."""
    return [column == value for column, value in pairs if value is not None]
