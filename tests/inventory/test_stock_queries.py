"""What is on hand and the ledger over HTTP: right at every instant, and no slower with a longer history."""

import base64
import json
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erp_service.db.engine import Database
from erp_service.inventory.queries.ledger import document_entries
from erp_service.inventory.queries.stock import stock_page
from tests.inventory.posting import NOON, Post
from tests.inventory.stock import fill, make_item, make_place
from tests.support.statements import Plans

CURRENT = "/api/v1/inventory/stock/current"
LEDGER = "/api/v1/inventory/stock/ledger"


async def on_hand(client: httpx.AsyncClient, **params: Any) -> list[tuple[str, str, str, str]]:
    answer = await client.get(CURRENT, params=params)
    assert answer.status_code == 200, answer.text
    assert "ETag" not in answer.headers
    return [(row["sku"], row["location"], row["on_hand"], row["value"]) for row in answer.json()["items"]]


async def entries(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await client.get(LEDGER, params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_a_level_says_what_is_there_and_what_one_of_it_is_worth(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post
) -> None:
    item, main = await make_item(admin, "BOLT"), await make_place(admin, "MAIN")
    await post("IN", "BOLT", "MAIN", "2", unit_cost="1")
    await post("IN", "BOLT", "MAIN", "1", unit_cost="2.5")
    answer = await viewer.get(CURRENT)
    assert answer.json() == {
        "items": [
            {
                "item_id": item,
                "sku": "BOLT",
                "name": "The BOLT",
                "location_id": main,
                "location": "MAIN",
                "on_hand": "3",
                "value": "4.5",
                "unit_value": "1.5",
                "currency": "EUR",
            }
        ],
        "next_cursor": None,
    }
    await post("IN", "BOLT", "MAIN", "4", unit_cost="0")
    assert (await viewer.get(CURRENT)).json()["items"][0]["unit_value"] == "0.642857"


async def test_what_ran_out_is_listed_at_zero_with_no_unit_value_unless_it_is_left_out(
    admin: httpx.AsyncClient, post: Post
) -> None:
    await make_item(admin, "BOLT")
    await make_item(admin, "NEVER")
    await make_place(admin, "MAIN")
    await post("IN", "BOLT", "MAIN", "2", unit_cost="1")
    await post("OUT", "BOLT", "MAIN", "2")
    (row,) = (await admin.get(CURRENT)).json()["items"]
    assert (row["on_hand"], row["value"], row["unit_value"]) == ("0", "0", None)
    assert await on_hand(admin, include_zero=False) == []
    assert await on_hand(admin, as_of=NOON.isoformat()) == [("BOLT", "MAIN", "0", "0")]
    assert await on_hand(admin, as_of=NOON.isoformat(), include_zero=False) == []


async def test_what_is_deleted_is_no_longer_listed_but_was_there_before(admin: httpx.AsyncClient, post: Post) -> None:
    bolt = await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    await post("IN", "BOLT", "MAIN", "2", unit_cost="1")
    await post("OUT", "BOLT", "MAIN", "2", at=NOON + timedelta(hours=1))
    assert (await admin.delete(f"/api/v1/inventory/items/{bolt}")).status_code == 204
    assert await on_hand(admin) == []
    assert await on_hand(admin, as_of=NOON.isoformat()) == [("BOLT", "MAIN", "2", "2")]


async def test_stock_below_zero_has_its_average_too(admin: httpx.AsyncClient, post: Post) -> None:
    await make_item(admin, "BOLT")
    await make_place(admin, "DOCK", negative=True)
    await post("IN", "BOLT", "DOCK", "1", unit_cost="2.5")
    await post("OUT", "BOLT", "DOCK", "3")
    (row,) = (await admin.get(CURRENT)).json()["items"]
    assert (row["on_hand"], row["value"], row["unit_value"]) == ("-2", "-5", "2.5")


async def test_filters_find_what_they_name_also_below_a_location(admin: httpx.AsyncClient, post: Post) -> None:
    bolt, nut = await make_item(admin, "BOLT"), await make_item(admin, "NUT")
    house = await make_place(admin, "HOUSE")
    zone = await make_place(admin, "ZONE", house)
    bin_ = await make_place(admin, "BIN", zone)
    await make_place(admin, "ELSEWHERE")
    for sku, code in (("BOLT", "HOUSE"), ("BOLT", "BIN"), ("NUT", "ZONE"), ("NUT", "ELSEWHERE")):
        await post("IN", sku, code, "1")

    async def places(**params: Any) -> list[tuple[str, str]]:
        return [(sku, code) for sku, code, _, _ in await on_hand(admin, **params)]

    every = [("BOLT", "HOUSE"), ("BOLT", "BIN"), ("NUT", "ZONE"), ("NUT", "ELSEWHERE")]
    for when in ({}, {"as_of": NOON.isoformat()}):
        assert await places(**when) == every
        assert await places(sku="NUT", **when) == every[2:]
        assert await places(item_id=bolt, **when) == every[:2]
        assert await places(item_id=bolt, sku="NUT", **when) == []
        assert await places(location_id=house, **when) == [("BOLT", "HOUSE")]
        assert await places(location_id=house, descendants=True, **when) == every[:3]
        assert await places(location_id=bin_, descendants=True, **when) == [("BOLT", "BIN")]
        assert await places(location_id=zone, descendants=True, item_id=nut, **when) == [("NUT", "ZONE")]
        assert await places(location_id=999, descendants=True, **when) == []
        assert await places(descendants=True, **when) == every


async def test_as_of_counts_up_to_the_instant_itself_and_a_late_entry_counts_when_it_happened(
    admin: httpx.AsyncClient, post: Post
) -> None:
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    await post("IN", "BOLT", "MAIN", "2", unit_cost="1", at=NOON)
    await post("IN", "BOLT", "MAIN", "5", unit_cost="1", at=NOON - timedelta(days=1))

    async def at(moment: datetime) -> list[str]:
        return [row[2] for row in await on_hand(admin, as_of=moment.isoformat())]

    assert await at(NOON) == ["7"]
    assert await at(NOON - timedelta(microseconds=1)) == ["5"]
    assert await at(NOON - timedelta(days=1)) == ["5"]
    assert await at(NOON - timedelta(days=1, microseconds=1)) == []


Posting = tuple[int, int, int, int]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    postings=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=12
    ),
    limit=st.integers(1, 5),
)
async def test_as_of_is_the_sum_of_entries_for_each_pair_once_on_any_pages(
    database: Database, owner: asyncpg.Connection, post: Post, postings: list[Posting], limit: int
) -> None:
    await owner.execute(
        "insert into items (sku, name, unit) select 'I' || n, 'I', 'pcs' from generate_series(0, 2) n"
        " on conflict do nothing"
    )
    await owner.execute(
        "insert into locations (code, name, location_type) select 'L' || n, 'L', 'BIN' from generate_series(0, 2) n"
        " on conflict do nothing"
    )
    # what earlier examples posted lies before this one's days
    start = await owner.fetchval("select coalesce(max(occurred_at), $1) + interval '1 day' from stock_ledger", NOON)
    for item, place, quantity, day in postings:
        await post("IN", f"I{item}", f"L{place}", str(quantity), unit_cost="1.5", at=start + timedelta(days=day))
    for day in range(4):
        moment = start + timedelta(days=day)
        expected: dict[tuple[str, str], tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0)))
        for row in await owner.fetch(
            "select sku, code, quantity, value from stock_ledger join items i on i.id = item_id"
            " join locations l on l.id = location_id where occurred_at <= $1",
            moment,
        ):
            sums = expected[row["sku"], row["code"]]
            expected[row["sku"], row["code"]] = sums[0] + row["quantity"], sums[1] + row["value"]
        seen = []
        cursor = None
        while True:
            async with database.read() as db:
                page = await stock_page(db, currency="EUR", as_of=moment, limit=limit, cursor=cursor)
            seen += [((row.sku, row.location), (row.on_hand, row.value)) for row in page.items]
            if (cursor := page.next_cursor) is None:
                break
        assert len(seen) == len(expected)
        assert dict(seen) == dict(expected)


# The ledger


async def test_an_entry_is_listed_as_it_was_posted_newest_first(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post
) -> None:
    item, main = await make_item(admin, "BOLT"), await make_place(admin, "MAIN")
    document = await post("IN", "BOLT", "MAIN", "2.50", unit_cost="1.10", reference_no="PO-1")
    await post("OUT", "BOLT", "MAIN", "1", at=NOON - timedelta(days=1))
    issue, receipt = await entries(viewer)
    assert (issue["transaction_type"], issue["quantity"], issue["on_hand_after"]) == ("OUT", "-1", "1.5")
    assert receipt == {
        "id": document.entries[0].id,
        "transaction_id": str(document.transaction_id),
        "line": 1,
        "item_id": item,
        "sku": "BOLT",
        "location_id": main,
        "location": "MAIN",
        "transaction_type": "IN",
        "quantity": "2.5",
        "value": "2.75",
        "unit_cost": "1.1",
        "on_hand_after": "2.5",
        "value_after": "2.75",
        "occurred_at": "2026-01-15T12:00:00Z",
        "recorded_at": receipt["recorded_at"],
        "reference_no": "PO-1",
        "notes": None,
        "reason": None,
        "metadata": {},
        "user_id": None,
    }
    assert receipt["recorded_at"].endswith("Z")


async def test_the_entries_of_a_document_are_what_posting_it_answered(
    admin: httpx.AsyncClient, post: Post, database: Database
) -> None:
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    document = await post("IN", "BOLT", "MAIN", "2")
    async with database.read() as db:
        assert await document_entries(db, document.transaction_id) == document.entries


async def test_the_ledger_is_filtered_by_each_of_its_filters(admin: httpx.AsyncClient, post: Post) -> None:
    bolt, _ = await make_item(admin, "BOLT"), await make_item(admin, "NUT")
    _, dock = await make_place(admin, "MAIN"), await make_place(admin, "DOCK")
    await post("IN", "BOLT", "MAIN", "1", reference_no="A", at=NOON)
    await post("IN", "NUT", "DOCK", "2", reference_no="B", at=NOON + timedelta(hours=1))
    await post("OUT", "NUT", "DOCK", "1", reference_no="B", at=NOON + timedelta(hours=2))

    async def quantities(**params: Any) -> list[str]:
        return [entry["quantity"] for entry in await entries(admin, **params)]

    assert await quantities() == ["-1", "2", "1"]
    assert await quantities(item_id=bolt) == ["1"]
    assert await quantities(sku="NUT") == ["-1", "2"]
    assert await quantities(sku="NO SUCH") == []
    assert await quantities(location_id=dock) == ["-1", "2"]
    assert await quantities(transaction_type="IN") == ["2", "1"]
    assert await quantities(reference_no="B", transaction_type="OUT") == ["-1"]
    assert await quantities(**{"from": "2026-01-15T13:00:00Z"}) == ["-1", "2"]
    assert await quantities(to="2026-01-15T13:00:00Z") == ["1"]
    assert await quantities(**{"from": "2026-01-15T13:00:00+01:00", "to": "2026-01-15T13:00:00.000001Z"}) == ["2", "1"]


async def test_a_traversal_of_the_ledger_shows_each_entry_once_while_it_grows(
    admin: httpx.AsyncClient, post: Post
) -> None:
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    for n in range(5):
        await post("IN", "BOLT", "MAIN", str(n + 1))
    seen: list[str] = []
    address: str | None = f"{LEDGER}?limit=2&sku=BOLT"
    while address:
        answer = await admin.get(address)
        seen += [entry["quantity"] for entry in answer.json()["items"]]
        address = answer.links["next"]["url"] if "next" in answer.links else None
        await post("IN", "BOLT", "MAIN", "100")
    assert seen == ["5", "4", "3", "2", "1"]


async def test_a_time_is_refused_with_what_to_write_instead(admin: httpx.AsyncClient) -> None:
    zone = "must be a time with its zone, such as 2026-01-31T12:00:00Z"
    plus = "has lost its plus sign: in an address write + as %2B, as in 2026-01-31T12:00:00%2B01:00"
    bad = {
        "2026-01-15T12:00:00": zone,
        "2026-01-15": zone,
        "yesterday": zone,
        "": zone,
        "1700000000": zone,
        "2026-02-30T12:00:00Z": zone,
        "0001-01-01T00:00:00%2B14:00": zone,
        "9999-12-31T23:59:59-14:00": zone,
        "2026-01-15T12:00:00+02:00": plus,
        "2026-01-15T12:00:00.5+02:00": plus,
    }
    for text, detail in bad.items():
        for address in (f"{CURRENT}?as_of={text}", f"{LEDGER}?from={text}", f"{LEDGER}?to={text}"):
            answer = await admin.get(address)
            assert answer.status_code == 422, address
            name = address.partition("?")[2].partition("=")[0]
            assert answer.json()["errors"] == [{"detail": detail, "parameter": name}]
    both = await admin.get(f"{LEDGER}?from=x&to=y")
    assert [error["parameter"] for error in both.json()["errors"]] == ["from", "to"]
    good = ["2026-01-15T12:00:00%2B02:00", "2026-01-15T12:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
    for text in good:
        assert (await admin.get(f"{CURRENT}?as_of={text}")).status_code == 200, text


async def test_a_bad_parameter_is_named(admin: httpx.AsyncClient) -> None:
    bad: list[tuple[str, str, object]] = [
        (CURRENT, "item_id", 0),
        (CURRENT, "location_id", "MAIN"),
        (CURRENT, "descendants", "some"),
        (CURRENT, "cursor", "x"),
        (CURRENT, "location", "MAIN"),
        (LEDGER, "transaction_type", "TRANSFER"),
        (LEDGER, "item_id", 2**53),
        (LEDGER, "limit", 501),
        (LEDGER, "since", "2026-01-15T12:00:00Z"),
        (LEDGER, "cursor", _cursor(["id"], ["1"])),
        (LEDGER, "cursor", _cursor(["id"], [2**63])),
    ]
    for address, name, value in bad:
        answer = await admin.get(address, params={name: str(value)})
        assert answer.status_code == 422, (address, name)
        assert [error["parameter"] for error in answer.json()["errors"]] == [name]


async def test_nobody_reads_without_a_token(client: httpx.AsyncClient) -> None:
    for address in (CURRENT, LEDGER):
        assert (await client.get(address)).status_code == 401


# Plans


async def test_reading_stock_costs_the_same_whatever_the_history(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, plans: Plans
) -> None:
    """Stock that gets slower with history: current stock never touches the ledger, page 10,000 is an index scan."""
    await fill(owner)
    place = await owner.fetchval("select min(id) from locations")
    middle = _cursor(["item_id", "location_id"], [500, place])
    await plans()
    for params in ({}, {"cursor": middle}, {"sku": "S7"}, {"item_id": 7}, {"location_id": place}):
        assert (await admin.get(CURRENT, params=params)).json()["items"]
        plan = await plans()
        assert "stock_ledger" not in plan, plan
        assert "Seq Scan on stock_balances" not in plan, plan
        assert "Sort Key: stock_balances" not in plan, plan
    (await admin.get(CURRENT, params={"location_id": place, "descendants": True})).raise_for_status()
    assert "stock_ledger" not in await plans()


async def test_as_of_reads_the_entries_of_its_own_page_by_index(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, plans: Plans
) -> None:
    await fill(owner)
    place = await owner.fetchval("select min(id) from locations")
    middle = _cursor(["item_id", "location_id"], [500, place])
    await plans()
    for params in ({}, {"cursor": middle}, {"sku": "S7"}, {"location_id": place}):
        answer = await admin.get(CURRENT, params={**params, "as_of": "2026-01-15T12:00:00Z"})
        assert answer.json()["items"]
        plan = await plans()
        assert "stock_ledger_item_id_location_id_occurred_at_idx" in plan, plan
        assert "Seq Scan on stock_ledger" not in plan, plan


async def test_page_10_000_of_the_ledger_is_an_index_scan(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, plans: Plans
) -> None:
    await fill(owner)
    place = await owner.fetchval("select min(id) from locations")
    middle = _cursor(["id"], [await owner.fetchval("select max(id) / 2 from stock_ledger")])
    await plans()
    indexes: list[tuple[dict[str, Any], str]] = [
        ({}, "stock_ledger_pkey"),
        ({"sku": "S7"}, "stock_ledger_item_id_id_idx"),
        ({"item_id": 7}, "stock_ledger_item_id_id_idx"),
        ({"item_id": 7, "location_id": place}, "stock_ledger_item_id_location_id_id_idx"),
        ({"reference_no": "R7"}, "stock_ledger_"),
    ]
    for params, index in indexes:
        for cursor in ({}, {"cursor": middle}):
            (await admin.get(LEDGER, params={**params, **cursor})).raise_for_status()
            plan = await plans()
            assert f"Index Scan Backward using {index}" in plan, plan
            assert "Sort" not in plan, plan


def _cursor(fields: list[str], values: list[object]) -> str:
    return base64.urlsafe_b64encode(json.dumps([fields, values]).encode()).rstrip(b"=").decode()
