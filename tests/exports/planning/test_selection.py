"""The catalogue, and how a request becomes SQL."""

import re
from typing import Any, get_args

import asyncpg
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service import errors
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.planning.selection import Spec, psql_text, query
from erp_service.exports.schemas import DatasetName
from erp_service.registry.datasets import FilterValue
from tests.exports.data import NASTY, fill
from tests.exports.jobs import JOBS, done
from tests.support.clients import UserClient
from tests.support.workers import Work


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_constants_hold_no_parameter_and_fit_in_one_line(name: str) -> None:
    text = psql_text(DATASETS[name])
    assert "$" not in text
    assert "\n" not in text
    # when it was set, and whether it must be changed; never the hash of it
    assert set(re.findall(r"\w*password\w*", text)) <= {"password_set_at", "must_change_password"}
    assert name in get_args(DatasetName)


def test_every_filter_and_sort_is_of_constants() -> None:
    for dataset in DATASETS.values():
        for filter_ in dataset.filters:
            assert "$" not in filter_.sql
            assert filter_.lifts or "{}" in filter_.sql
        assert all("$" not in sql for sql in dataset.sorts.values())


@given(
    name=st.sampled_from(sorted(DATASETS)),
    columns=st.none() | st.lists(st.text(max_size=8).map("¤".__add__), max_size=3),
    filters=st.dictionaries(
        st.sampled_from(["q", "sku", "code", "reference_no", "action", "entity_id", "request_id"]),
        st.text(max_size=20).map("¤".__add__),
    ),
    sort=st.none() | st.text(max_size=8).map("¤".__add__),
)
def test_nothing_a_caller_says_becomes_part_of_the_text(
    name: str, columns: list[str] | None, filters: dict[str, FilterValue], sort: str | None
) -> None:
    known = {filter_.name for filter_ in DATASETS[name].filters}
    try:
        found = query(DATASETS[name], Spec(columns=columns, filter=filters, sort=sort))
    except errors.Invalid:
        assert columns or sort or filters.keys() - known
    else:
        assert "¤" not in found.sql
        assert sorted(map(str, found.arguments)) == sorted(map(str, filters.values()))


FAULTY: list[tuple[dict[str, Any], list[str]]] = [
    ({"columns": ["sku", "nope", "sku"]}, ["/columns/1", "/columns/2"]),
    ({"filter": {"nope": 1, "status": "GONE", "a/b": 1}}, ["/filter/nope", "/filter/status", "/filter/a~1b"]),
    ({"sort": "description"}, ["/sort"]),
    ({"columns": ["x"], "filter": {"include_deleted": "yes"}, "sort": "x"},
     ["/columns/0", "/filter/include_deleted", "/sort"]),
    ({"dataset": "secrets"}, ["/dataset"]),
    ({"columns": []}, ["/columns"]),
    ({"format": "pdf", "compression": "rar", "colour": "x"}, ["/format", "/compression", "/colour"]),
    ({"retention_hours": 100}, ["/retention_hours"]),
    ({"filter": {"q": 1.5}}, ["/filter/q"]),
    ({"dataset": "stock_movements", "filter": {"item_id": 0, "from": "2020-01-01T00:00:00"}},
     ["/filter/item_id", "/filter/from"]),
    # before the first and after the last timestamp that asyncpg can encode
    ({"dataset": "stock_movements", "filter": {"from": "0001-01-01T00:00:00+14:00", "to": "9999-12-31T23:59:59-14:00"}},
     ["/filter/from", "/filter/to"]),
    ({"filter": {f"f{n}": 1 for n in range(21)}}, ["/filter"]),
]  # fmt: skip


async def test_every_fault_of_a_request_is_named(viewer: httpx.AsyncClient) -> None:
    for body, pointers in FAULTY:
        answer = await viewer.post(JOBS, json={"dataset": "items", **body})
        assert answer.status_code == 422, body
        assert sorted(fault["pointer"] for fault in answer.json()["errors"]) == sorted(pointers)


FILTERED: list[tuple[str, dict[str, Any], str]] = [
    ("items", {"filter": {"status": "ACTIVE"}}, "deleted_at is null"),
    ("items", {"filter": {"include_deleted": True}}, "true"),
    ("items", {"filter": {"include_deleted": False}}, "deleted_at is null"),
    ("items", {"filter": {"q": "COMMA"}}, "name ilike '%comma%'"),
    ("stock_movements", {"filter": {"item_id": 3}}, "item_id = 3"),
    ("stock_movements", {"filter": {"from": "2020-03-01T00:00:00Z", "to": "2020-03-02T02:00:00+01:00"}},
     "occurred_at >= '2020-03-01Z' and occurred_at < '2020-03-02T01:00Z'"),
    ("stock_movements", {"filter": {"transaction_type": "ADJUSTMENT", "location_id": 2}}, "location_id = 2"),
    ("stock_movements", {"filter": {"transaction_type": "IN"}}, "false"),
    ("stock_levels", {"filter": {"location_id": 2}}, "location_id = 2"),
    ("locations", {"filter": {"parent_id": 1}}, "parent_id = 1"),
    ("audit_log", {"filter": {"action": "item.changed", "user_id": 1}}, "action = 'item.changed' and user_id = 1"),
    ("users", {"filter": {"role": "ADMIN", "is_active": True}}, "role = 'ADMIN'"),
]  # fmt: skip
TABLES = {"stock_movements": "stock_ledger", "stock_levels": "stock_balances"}


async def test_filters_choose_what_the_words_of_the_lists_say(
    admin: UserClient, owner: asyncpg.Connection, work: Work
) -> None:
    await fill(owner, admin.user_id)
    async with work():
        for dataset, body, condition in FILTERED:
            job = await done(admin, dataset, **body)
            expected = await owner.fetchval(f"select count(*) from {TABLES.get(dataset, dataset)} where {condition}")
            assert job["result"]["rows"] == expected, (dataset, body)


async def test_values_of_filters_are_taken_as_they_are(
    viewer: UserClient, owner: asyncpg.Connection, work: Work
) -> None:
    """Filters with quotes, backslashes and `$1` find exactly the rows that contain them."""
    await fill(owner, viewer.user_id, movements=300)
    async with work():
        for word in ['quote " and ""', "back\\slash \\n \\N", "$1 and {} and %s :name", "'", "two\nlines", "=1+1"]:
            assert word in NASTY
            job = await done(viewer, "stock_movements", filter={"reference_no": word})
            expected = await owner.fetchval("select count(*) from stock_ledger where reference_no = $1", word)
            assert job["result"]["rows"] == expected > 0, word


async def test_time_filters_at_the_ends_of_the_calendar_do_not_fail_the_run(
    viewer: httpx.AsyncClient, work: Work
) -> None:
    ends = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z"}
    async with work():
        job = await done(viewer, "stock_movements", filter=ends)
    assert job["status"] == "succeeded"


async def test_columns_and_sort_are_the_callers(viewer: UserClient, owner: asyncpg.Connection, work: Work) -> None:
    await fill(owner, viewer.user_id)
    async with work():
        job = await done(viewer, "items", columns=["unit", "id"], sort="-id")
    lines = (await viewer.get(f"{JOBS}/{job['id']}/download")).content
    assert lines.startswith(b"unit,id\n")
    ids = await owner.fetch("select id from items where deleted_at is null order by id desc")
    assert lines.endswith(f",{ids[-1]['id']}\n".encode())
