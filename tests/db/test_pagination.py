"""Keyset pages: every row once, whatever the values, the order and the limit; forged cursors are refused."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, DateTime, column, select, values
from sqlalchemy import Text as TextColumn
from sqlalchemy import Uuid as UuidColumn

from erp_service import errors
from erp_service.db import pagination
from erp_service.db.engine import Database
from erp_service.db.pagination import Page, SortKey, SortOrder, chosen, orders, page
from erp_service.errors import INTEGER_LIMIT


class Row(msgspec.Struct, frozen=True):
    id: int
    name: str
    at: datetime
    key: UUID


class RowPage(Page[Row]):
    """Rows."""


_ID = SortKey(column("id", BigInteger), "id", int)
_NAME = SortKey(column("name", TextColumn), "name", str)
_AT = SortKey(column("at", DateTime(timezone=True)), "at", datetime)
_KEY = SortKey(column("key", UuidColumn), "key", UUID)
ORDERS = orders({"id": _ID, "name": _NAME, "at": _AT}, _ID) | orders({"key": _KEY}, _KEY)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Few different names and times, so that most occur in several rows."""
    names = draw(st.lists(texts, min_size=1, max_size=4))
    times = draw(st.lists(instants, min_size=1, max_size=3))
    ids = draw(st.sets(st.integers(-INTEGER_LIMIT, INTEGER_LIMIT), max_size=12))
    return [Row(id_, draw(st.sampled_from(names)), draw(st.sampled_from(times)), draw(st.uuids())) for id_ in ids]


async def traverse(database: Database, rows: Sequence[Row], order: SortOrder, limit: int) -> list[Row]:
    kinds: list[Any] = [column("id", BigInteger), column("name", TextColumn), column("at", DateTime(timezone=True))]
    table = values(*kinds, column("key", UuidColumn), name="rows").data([msgspec.structs.astuple(row) for row in rows])
    found = select(table.c.id, table.c.name, table.c.at, table.c.key)
    keys = [SortKey(table.c[key.field], key.field, key.kind) for key in order.keys]
    seen: list[Row] = []
    cursor = None
    async with database.read() as db:
        while True:
            into: Any = RowPage
            got = await page(db, found, Row, SortOrder(keys, order.descending), limit=limit, cursor=cursor, into=into)
            assert len(got.items) == limit or got.next_cursor is None
            seen += got.items
            assert len(seen) <= len(rows)
            if (cursor := got.next_cursor) is None:
                return seen


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=tables().filter(bool), sort=st.sampled_from(sorted(ORDERS)), limit=st.integers(1, 13))
async def test_a_traversal_shows_each_row_once_in_order_whatever_the_values(
    database: Database, rows: list[Row], sort: str, limit: int
) -> None:
    order = ORDERS[sort]
    seen = await traverse(database, rows, order, limit)
    assert sorted(row.id for row in seen) == sorted(row.id for row in rows)
    assert seen == await traverse(database, rows, order, 500)
    if sort != "name" and sort != "-name":  # the database's collation decides the order of names
        fields = [key.field for key in order.keys]
        keys = [tuple(getattr(row, field) for field in fields) for row in seen]
        assert keys == sorted(keys, reverse=order.descending)


@given(
    id_=st.integers(-INTEGER_LIMIT, INTEGER_LIMIT),
    name=texts,
    at=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=offsets),  # noqa: DTZ001
    key=st.uuids(),
)
def test_a_cursor_gives_back_the_values_that_were_put_in(id_: int, name: str, at: datetime, key: UUID) -> None:
    keys = [_NAME, _AT, _KEY, _ID]
    cursor = pagination._write(Row(id_, name, at, key), keys)
    assert pagination._read(cursor, keys) == [name, at, key, id_]
    assert not set(cursor) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def cursor_of(fields: object, values: object) -> str:
    return base64.urlsafe_b64encode(json.dumps([fields, values]).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "a b",
        "===",
        "////",
        "A" * 1000,
        cursor_of(["id"], [1]),
        cursor_of(["id", "name"], [1, "a"]),
        cursor_of(["name", "id"], ["a"]),
        cursor_of(["name", "id"], ["a", 1, 2]),
        cursor_of(["name", "id"], ["a", "1"]),
        cursor_of(["name", "id"], ["a", 1.5]),
        cursor_of(["name", "id"], ["a", True]),
        cursor_of(["name", "id"], ["a", None]),
        cursor_of(["name", "id"], [["a"], 1]),
        cursor_of(["name", "id"], ["a\0", 1]),
        cursor_of(["name", "id"], ["a", 2**53]),
        cursor_of(["name", "id"], ["a", -(2**70)]),
        cursor_of("name", "id"),
        cursor_of({"name": 1}, {}),
        base64.urlsafe_b64encode(b'[["name","id"],["\xff",1]]').decode(),
        base64.urlsafe_b64encode(b'[["name","id"],["\\ud800",1]]').decode(),
        base64.urlsafe_b64encode(b"[" * 10_000).decode(),
    ],
)
def test_a_cursor_that_was_bent_is_refused(cursor: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        pagination._read(cursor, [_NAME, _ID])
    assert [fault.parameter for fault in caught.value.faults] == ["cursor"]


@pytest.mark.parametrize("at", ["2026-01-15T12:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "", 0])
def test_a_time_in_a_cursor_is_one_that_the_database_can_compare(at: object) -> None:
    with pytest.raises(errors.Invalid):
        pagination._read(cursor_of(["at", "id"], [at, 1]), [_AT, _ID])


@given(st.text(max_size=100) | st.binary(max_size=80).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_text_for_a_cursor_is_refused_and_never_breaks(cursor: str) -> None:
    with pytest.raises(errors.Invalid):
        pagination._read(cursor, [_NAME, _AT, _KEY, _ID])


def test_an_order_that_is_not_known_is_refused_with_those_that_are() -> None:
    assert chosen(ORDERS, None, "id") is ORDERS["id"]
    assert chosen(ORDERS, "-name", "id") == SortOrder([_NAME, _ID], descending=True)
    with pytest.raises(errors.Invalid) as caught:
        chosen(ORDERS, "price", "id")
    (fault,) = caught.value.faults
    assert fault.parameter == "sort"
    assert fault.detail == "is not one of -at, -id, -key, -name, at, id, key, name"


def test_a_unique_column_is_sorted_by_alone() -> None:
    assert [key.field for key in ORDERS["id"].keys] == ["id"]
    assert [key.field for key in ORDERS["name"].keys] == ["name", "id"]
