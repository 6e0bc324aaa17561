"""Statements are compiled by SQLAlchemy and sent by asyncpg: nothing may be lost between the two."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import ARRAY, Float, Integer, Text, bindparam, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.postgresql.ranges import AbstractMultiRange
from sqlalchemy.types import Boolean

from erp_service.audit.models import AuditEntry
from erp_service.db.base import Base, among
from erp_service.db.engine import Database
from erp_service.db.statements import Prepared, sql_of
from erp_service.inventory.models import Item

# SQLAlchemy would turn Python's objects into JSON, which the codec of our connections does; a Boolean it would check
CONVERTED_BY_US = (JSONB, Boolean)


def test_no_column_needs_a_conversion_that_only_sqlalchemy_makes() -> None:
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    for table in Base.metadata.tables.values():
        for column in table.columns:
            kind = column.type.dialect_impl(dialect)
            # asyncpg takes and gives lists; what is in them must need nothing either
            kind = kind.item_type.dialect_impl(dialect) if isinstance(kind, ARRAY) else kind
            # ranges of ids are written as text, and asyncpg gives its own
            if isinstance(kind, AbstractMultiRange):
                continue
            if not isinstance(kind, CONVERTED_BY_US):
                assert kind.bind_processor(dialect) is None, column
            # the numbers of the types in the protocol: float8, and numeric, which comes as a Decimal
            result = kind.result_processor(dialect, 701 if isinstance(kind, Float) else 1700)
            assert result is None, column


def test_statement_of_one_shape_is_compiled_once_and_takes_other_values() -> None:
    first, second = (sql_of(select(Item.id).where(Item.sku == sku), {}) for sku in ("A", "B"))
    assert first.text is second.text
    assert (list(first.arguments), list(second.arguments)) == (["A"], ["B"])


def test_prepared_statement_takes_its_parameters_in_any_order_and_keeps_its_constants() -> None:
    statement = Prepared(
        select(Item.id).where(Item.sku == bindparam("sku"), Item.version > 3, Item.unit == bindparam("unit"))
    )
    for parameters in ({"sku": "A", "unit": "pcs"}, {"unit": "pcs", "sku": "A", "more": 1}):
        assert list(statement.sql(parameters).arguments) == ["A", 3, "pcs"]
    with pytest.raises(KeyError):
        statement.sql({"sku": "A"})


def test_values_beside_an_insert_choose_its_columns() -> None:
    one, two = (sql_of(insert(AuditEntry), {"action": "a", **more}) for more in ({}, {"reason": "r"}))
    assert "reason" not in one.text
    assert "reason" in two.text


def test_list_that_would_change_the_text_is_refused_and_an_array_is_not() -> None:
    with pytest.raises(ValueError, match="among"):
        sql_of(select(Item.id).where(Item.id.in_([1, 2])), {})
    texts = {sql_of(select(Item.id).where(among(Item.id, ids)), {}).text for ids in ([1], [1, 2, 3])}
    assert len(texts) == 1


async def test_values_of_every_type_come_back_as_they_went(database: Database) -> None:
    values: list[Any] = [1, "a 'b' \\ ü", Decimal("12.500000"), True, b"\x00\xff", datetime(2026, 1, 2, tzinfo=UTC)]
    values += [UUID("00000000-0000-7000-8000-000000000000"), None]
    async with database.read() as db:
        row = (await db.execute(select(*(literal(value) for value in values)))).one()
    assert list(row) == values


@pytest.mark.parametrize("value", [{"a": [1, None, "ü"]}, {}, [1], {"n": 1.5}])
async def test_json_is_pythons_own_in_both_directions(database: Database, value: object) -> None:
    async with database.read() as db:
        assert await db.scalar(select(literal(value, JSONB))) == value
        assert await db.scalar(text("select cast(:value as jsonb)"), {"value": value}) == value
    # a text is JSON already
    async with database.read() as db:
        assert await db.scalar(text("select cast(:value as jsonb)"), {"value": '{"a": 1}'}) == {"a": 1}


async def test_rows_are_known_by_place_and_by_name(database: Database) -> None:
    async with database.read() as db:
        rows = await db.execute(select(literal(1).label("one"), literal("x", Text).label("two")))
        row = rows.one()
        assert (row[0], row.one, row["two"], dict(row)) == (1, 1, "x", {"one": 1, "two": "x"})
        with pytest.raises(AttributeError):
            _ = row.three
        assert (await db.execute(select(literal(1)).where(literal(1) == 2))).one_or_none() is None
        several = await db.execute(select(func.generate_series(1, 3)))
        with pytest.raises(ValueError, match="too many"):
            several.one()
        assert await db.scalars(select(func.generate_series(1, 3))) == [1, 2, 3]


async def test_count_of_changed_rows(database: Database) -> None:
    async with database.write() as db:
        values = [{"sku": f"S{n}", "name": "N", "unit": "pcs"} for n in range(3)]
        for value in values:
            await db.execute(insert(Item).values(**value))
        assert await db.row_count(update(Item).values(name="M").where(Item.sku != literal("S0", Text))) == 2
        assert await db.row_count(text("delete from items where id = :id"), {"id": 0}) == 0
        assert await db.scalar(select(func.count()).select_from(Item).where(literal(1, Integer) == 1)) == 3
