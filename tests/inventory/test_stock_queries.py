"""What is on hand and the ledger over HTTP: right at every instant, and no slower with a longer history."""

import base64
import json
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import asyncpg
import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erp_service.db.engine import Database
from erp_service.inventory.queries.ledger import document_entries
from erp_service.inventory.queries.stock import STOCK
from tests.inventory.posting import NOON, Post
from tests.inventory.stock import fill, make_item, make_place
from tests.reports.model import shares
from tests.support.statements import Plans

CURRENT = "/api/v1/inventory/stock/current"
LEDGER = "/api/v1/inventory/stock/ledger"
STOCK_PATH = "/api/v1/inventory/stock"


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
                "unit": "pcs",
                "location_id": main,
                "location": "MAIN",
                "on_hand": "3",
                "reserved": "0",
                "available": "3",
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
    assert await on_hand(admin, as_of=NOON.isoformat()) == []
    after = (NOON + timedelta(microseconds=1)).isoformat()
    assert await on_hand(admin, as_of=after) == [("BOLT", "MAIN", "0", "0")]
    assert await on_hand(admin, as_of=after, include_zero=False) == []


async def test_what_is_deleted_is_no_longer_listed_but_was_there_before(admin: httpx.AsyncClient, post: Post) -> None:
    bolt = await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    await post("IN", "BOLT", "MAIN", "2", unit_cost="1")
    await post("OUT", "BOLT", "MAIN", "2", at=NOON + timedelta(hours=1))
    assert (await admin.delete(f"/api/v1/inventory/items/{bolt}")).status_code == 204
    assert await on_hand(admin) == []
    assert await on_hand(admin, as_of=(NOON + timedelta(hours=1)).isoformat()) == [("BOLT", "MAIN", "2", "2")]


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
        await post("IN", sku, code, "1", unit_cost="1")

    async def places(**params: Any) -> list[tuple[str, str]]:
        return [(sku, code) for sku, code, _, _ in await on_hand(admin, **params)]

    every = [("BOLT", "HOUSE"), ("BOLT", "BIN"), ("NUT", "ZONE"), ("NUT", "ELSEWHERE")]
    for when in ({}, {"as_of": "2026-01-15T12:00:00.000001Z"}, {"as_of": "2026-01-15"}):
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
        assert await places(location="HOUSE", **when) == [("BOLT", "HOUSE")]
        assert await places(location="HOUSE", descendants=True, **when) == every[:3]


async def test_as_of_does_not_count_its_instant_and_a_late_entry_counts_when_it_happened(
    admin: httpx.AsyncClient, post: Post
) -> None:
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    await post("IN", "BOLT", "MAIN", "2", unit_cost="1", at=NOON)
    await post("IN", "BOLT", "MAIN", "5", unit_cost="1", at=NOON - timedelta(days=1))

    async def at(moment: datetime) -> list[str]:
        return [row[2] for row in await on_hand(admin, as_of=moment.isoformat())]

    assert await at(NOON + timedelta(microseconds=1)) == ["7"]
    assert await at(NOON) == ["5"]
    assert await at(NOON - timedelta(days=1, microseconds=-1)) == ["5"]
    assert await at(NOON - timedelta(days=1)) == []


Posting = tuple[str, int, int, int, int, int]
postings = st.tuples(
    st.sampled_from(["IN", "OUT"]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(1, 9),
    st.integers(0, 3),
    st.integers(0, 700),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(postings, min_size=1, max_size=12), limit=st.integers(1, 5))
async def test_shares_of_locations_add_up_to_the_value_of_the_item_at_every_moment_on_any_pages(
    database: Database, owner: asyncpg.Connection, post: Post, moves: list[Posting], limit: int
) -> None:
    """Stock below zero at one place and above at others, what was dated back, and what came to nothing."""
    await owner.execute(
        "insert into items (sku, name, unit) select 'I' || n, 'I', 'pcs' from generate_series(0, 2) n"
        " on conflict do nothing"
    )
    await owner.execute(
        "insert into locations (code, name, location_type, allow_negative_stock)"
        " select 'L' || n, 'L', 'BIN', true from generate_series(0, 2) n on conflict do nothing"
    )
    # what earlier examples posted lies before this one's days
    start = await owner.fetchval("select coalesce(max(occurred_at), $1) + interval '1 day' from stock_ledger", NOON)
    known = {row["sku"] for row in await owner.fetch("select sku from items i join stock_values v on v.item_id = i.id")}
    for wish, item, place, quantity, day, cents in moves:
        kind = "IN" if f"I{item}" not in known else wish
        unit_cost = str(Decimal(cents) / 100) if kind == "IN" else None
        known.add(f"I{item}")
        await post(kind, f"I{item}", f"L{place}", str(quantity), unit_cost=unit_cost, at=start + timedelta(days=day))
    for day in (*range(5), None):
        moment = None if day is None else start + timedelta(days=day)
        levels: dict[str, dict[str, Fraction]] = defaultdict(dict)
        values: dict[str, Fraction] = defaultdict(Fraction)
        there = set()
        for row in await owner.fetch(
            "select sku, code, quantity, value, occurred_at from stock_ledger join items i on i.id = item_id"
            " join locations l on l.id = location_id order by code"
        ):
            held = levels[row["sku"]]
            held.setdefault(row["code"], Fraction(0))
            if moment is None or row["occurred_at"] < moment:
                held[row["code"]] += Fraction(row["quantity"])
                values[row["sku"]] += Fraction(row["value"])
                there.add((row["sku"], row["code"]))
        expected = {}
        for sku, held in levels.items():
            for code, share in shares(held, values[sku]).items():
                if (sku, code) in there or share:
                    expected[sku, code] = held[code], share
        seen = []
        cursor = None
        while True:
            async with database.read() as db:
                page = await STOCK.page(db, currency="EUR", as_of=moment, limit=limit, cursor=cursor)
            seen += [((row.sku, row.location), (Fraction(row.on_hand), Fraction(row.value))) for row in page.items]
            if (cursor := page.next_cursor) is None:
                break
        assert [key for key, _ in seen] == sorted(expected)
        assert dict(seen) == expected


async def test_a_shelf_with_nothing_gets_no_part_of_a_value_below_zero(admin: httpx.AsyncClient, post: Post) -> None:
    """Of three places below zero the one with the most would be one with nothing on hand."""
    await make_item(admin, "BOLT")
    for code in ("A", "B", "C", "D"):
        await make_place(admin, code, negative=True)
    await post("IN", "BOLT", "D", "1", unit_cost="1")
    await post("OUT", "BOLT", "D", "1")
    for code in ("A", "B", "C"):
        await post("OUT", "BOLT", code, "1")
    await post("IN", "BOLT", "A", "0.7", unit_cost="1.428571")
    rows = [(on_hand, value) for _, _, on_hand, value in await on_hand(admin)]
    assert rows == [("-0.3", "-0.4285"), ("-1", "-1.4286"), ("-1", "-1.4286"), ("0", "0")]


async def test_a_day_as_of_includes_it_in_the_zone_of_the_company(
    admin: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    """The last receipt of 28 March 2026 in Berlin, the first of the 29th, which has 23 hours, and of the 30th."""
    await owner.execute("update company set timezone = 'Europe/Berlin'")
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    for moment in ("2026-03-28T22:59:59.999999+00:00", "2026-03-28T23:00:00+00:00", "2026-03-29T22:00:00+00:00"):
        await post("IN", "BOLT", "MAIN", "1", unit_cost="1", at=datetime.fromisoformat(moment))

    async def quantities(**params: Any) -> list[str]:
        return [entry["quantity"] for entry in await entries(admin, **params)]

    assert [row[2] for row in await on_hand(admin, as_of="2026-03-28")] == ["1"]
    assert [row[2] for row in await on_hand(admin, as_of="2026-03-29")] == ["2"]
    assert [row[2] for row in await on_hand(admin, as_of="2026-03-30")] == ["3"]
    assert len(await quantities(**{"from": "2026-03-29", "to": "2026-03-30"})) == 1
    assert len(await quantities(to="2026-03-29")) == 1
    assert len(await quantities(**{"from": "2026-03-30"})) == 1


async def test_opening_and_movements_from_an_instant_share_no_entry(admin: httpx.AsyncClient, post: Post) -> None:
    """Entries at exactly 2026-02-01T00:00:00Z were counted as of that instant, and in the movements from it."""
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    midnight = "2026-02-01T00:00:00Z"
    await post("IN", "BOLT", "MAIN", "3", unit_cost="1", at=datetime(2026, 1, 31, 23, 59, 59, 999999, UTC))
    await post("IN", "BOLT", "MAIN", "5", unit_cost="1", at=datetime(2026, 2, 1, tzinfo=UTC))
    assert [row[2] for row in await on_hand(admin, as_of=midnight)] == ["3"]
    assert [entry["quantity"] for entry in await entries(admin, **{"from": midnight})] == ["5"]
    assert [entry["quantity"] for entry in await entries(admin, to=midnight)] == ["3"]
    assert [row[2] for row in await on_hand(admin, as_of="2026-01-31")] == ["3"]


async def test_a_correction_of_the_past_is_worth_what_it_corrects_in_the_past(
    admin: httpx.AsyncClient, staff: httpx.AsyncClient
) -> None:
    """IN 10 at 100, reversed with the same date, IN 10 at 10, all of 10 January: 20 pieces worth 1,100 on the 31st."""
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    body = {"sku": "BOLT", "location": "MAIN", "quantity": "10", "occurred_at": "2026-01-10T09:00:00Z"}
    wrong = await staff.post(f"{STOCK_PATH}/in", json={**body, "unit_cost": "100"})
    assert wrong.status_code == 201, wrong.text
    address = f"{STOCK_PATH}/transactions/{wrong.json()['transaction_id']}/reverse"
    undone = await admin.post(address, json={"reason": "wrong cost", "occurred_at": "2026-01-10T09:00:00Z"})
    assert undone.status_code == 201, undone.text
    (await staff.post(f"{STOCK_PATH}/in", json={**body, "unit_cost": "10"})).raise_for_status()
    assert await on_hand(admin, as_of="2026-01-31") == [("BOLT", "MAIN", "10", "100")]


async def test_a_reservation_that_has_expired_holds_nothing_of_what_is_read(
    admin: httpx.AsyncClient, staff: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    """Whether or not it was ended: holds counted until a sweep."""
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    await post("IN", "BOLT", "MAIN", "10", unit_cost="1")
    for quantity in ("2", "3.5"):
        body = {"sku": "BOLT", "location": "MAIN", "quantity": quantity, "expires_in_seconds": 600}
        (await staff.post("/api/v1/inventory/reservations", json=body)).raise_for_status()

    async def available() -> set[tuple[str, str]]:
        said = [
            *(await admin.get(CURRENT)).json()["items"],
            *(await admin.post(f"{STOCK_PATH}/lookup", json={"skus": ["BOLT"]})).json()["items"],
            *(await admin.post(f"{STOCK_PATH}/lookup", json={"skus": ["BOLT"], "location": "MAIN"})).json()["items"],
            *(await admin.get("/api/v1/inventory/reports/low-stock?threshold=100")).json()["items"],
            *(await admin.get("/api/v1/inventory/reports/snapshot")).json()["items"],
        ]
        assert len(said) == 5
        return {(row["reserved"], row["available"]) for row in said}

    assert await available() == {("5.5", "4.5")}
    await owner.execute("update stock_reservations set expires_at = now() - interval '1 second' where quantity = 2")
    assert await available() == {("3.5", "6.5")}
    (row,) = (await admin.get(CURRENT, params={"as_of": "2026-01-15"})).json()["items"]
    assert (row["on_hand"], row["reserved"], row["available"]) == ("10", None, None)


# Looking up


async def test_lookup_finds_the_stock_of_items_by_any_name_and_says_which_are_missing(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    bolt, nut, idle = [await make_item(admin, sku) for sku in ("BOLT", "NUT", "IDLE")]
    gone = await make_item(admin, "GONE")
    main, shop = await make_place(admin, "MAIN"), await make_place(admin, "SHOP")
    await owner.execute("update items set barcode = '4006', external_id = 'shop-7' where id = $1", nut)
    await post("IN", "BOLT", "MAIN", "2", unit_cost="1")
    await post("IN", "BOLT", "SHOP", "1", unit_cost="1.0001")
    await post("IN", "NUT", "SHOP", "4", unit_cost="3")
    await owner.execute("update stock_balances set reserved = 1.5 where item_id = $1 and location_id = $2", bolt, main)
    await admin.delete(f"/api/v1/inventory/items/{gone}")
    names = {
        "ids": [bolt, 999, gone, 999],
        "skus": ["BOLT", "IDLE", "NO SUCH", "GONE"],
        "external_ids": ["shop-7", "shop-8"],
        "barcodes": ["4006", "4007"],
    }

    async def found(**body: Any) -> dict[str, Any]:
        answer = await viewer.post(f"{STOCK_PATH}/lookup", json={**names, **body})
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    answer = await found()
    assert answer["missing"] == {
        "ids": [999, gone],
        "skus": ["NO SUCH", "GONE"],
        "external_ids": ["shop-8"],
        "barcodes": ["4007"],
    }
    assert answer["items"][0] == {
        "item_id": bolt,
        "sku": "BOLT",
        "name": "The BOLT",
        "unit": "pcs",
        "external_id": None,
        "barcode": None,
        "on_hand": "3",
        "reserved": "1.5",
        "available": "1.5",
        "value": "3.0001",
        "unit_value": "1.000033",
        "currency": "EUR",
    }
    fields = ("item_id", "on_hand", "reserved", "available", "value", "unit_value")
    rows = [tuple(row[name] for name in fields) for row in answer["items"]]
    assert rows[1:] == [(nut, "4", "0", "4", "12", "3"), (idle, "0", "0", "0", "0", None)]
    for place in ({"location": "MAIN"}, {"location_id": main}):
        rows = [tuple(row[name] for name in fields) for row in (await found(**place))["items"]]
        assert rows == [
            (bolt, "2", "1.5", "0.5", "2.0001", "1.000033"),
            (nut, "0", "0", "0", "0", None),
            (idle, "0", "0", "0", "0", None),
        ]
    assert [row["value"] for row in (await found(location_id=shop))["items"]] == ["1", "12", "0"]


async def test_lookup_names_what_is_wrong_with_it(viewer: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    main = await make_place(admin, "MAIN")
    bad: list[tuple[str, dict[str, Any]]] = [
        ("/location", {"location": "NOWHERE"}),
        ("/location_id", {"location_id": 999}),
        ("/location", {"location": "MAIN", "location_id": main}),
        ("", {"skus": ["A"] * 600, "barcodes": ["A"] * 401}),
        ("/skus", {"skus": ["A"] * 1001}),
    ]
    for pointer, body in bad:
        answer = await viewer.post(f"{STOCK_PATH}/lookup", json=body)
        assert answer.status_code == 422, body
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    everything = await viewer.post(f"{STOCK_PATH}/lookup", json={"skus": [f"{n:0100}" for n in range(1000)]})
    assert everything.status_code == 200
    assert len(everything.json()["missing"]["skus"]) == 1000


# The ledger


async def test_an_entry_is_listed_as_it_was_posted_newest_first(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post
) -> None:
    item, main = await make_item(admin, "BOLT"), await make_place(admin, "MAIN")
    document = await post("IN", "BOLT", "MAIN", "2.50", unit_cost="1.10", reference_no="PO-1")
    await post("OUT", "BOLT", "MAIN", "1", at=NOON + timedelta(days=1))
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
        "unit": "pcs",
        "value": "2.75",
        "unit_cost": "1.1",
        "on_hand_after": "2.5",
        "item_on_hand_after": "2.5",
        "value_after": "2.75",
        "origin": None,
        "reverses_id": None,
        "not_covered": None,
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
    document = await post("IN", "BOLT", "MAIN", "2", unit_cost="1")
    async with database.read() as db:
        assert await document_entries(db, document.transaction_id) == document.entries


async def test_the_ledger_is_filtered_by_each_of_its_filters(admin: httpx.AsyncClient, post: Post) -> None:
    bolt, _ = await make_item(admin, "BOLT"), await make_item(admin, "NUT")
    _, dock = await make_place(admin, "MAIN"), await make_place(admin, "DOCK")
    await post("IN", "BOLT", "MAIN", "1", reference_no="A", at=NOON, unit_cost="1")
    await post("IN", "NUT", "DOCK", "2", reference_no="B", at=NOON + timedelta(hours=1), unit_cost="1")
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
    assert await quantities(sort="id") == ["1", "2", "-1"]
    assert await quantities(sort="-id") == await quantities()
    assert await quantities(location="DOCK") == ["-1", "2"]
    assert await quantities(origin="REVERSAL") == []


async def test_changes_of_value_are_at_no_location(admin: httpx.AsyncClient, post: Post) -> None:
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    await post("IN", "BOLT", "MAIN", "10", unit_cost="2")
    body = {"sku": "BOLT", "difference": "5", "reason": "freight"}
    revalued = await admin.post(f"{STOCK_PATH}/revaluation", json=body)
    assert revalued.status_code == 201, revalued.text
    newest, _ = await entries(admin)
    assert (newest["location_id"], newest["location"], newest["on_hand_after"]) == (None, None, None)
    assert (newest["quantity"], newest["value"], newest["value_after"]) == ("0", "5", "25")
    assert (newest["transaction_type"], newest["origin"]) == ("ADJUSTMENT", "REVALUATION")
    assert [entry["id"] for entry in await entries(admin, origin="REVALUATION")] == [newest["id"]]
    assert [entry["value"] for entry in await entries(admin, location="MAIN")] == ["20"]
    assert await on_hand(admin) == [("BOLT", "MAIN", "10", "25")]


async def test_the_ledger_by_the_time_of_recording_shows_each_entry_once(
    admin: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    for n in range(5):
        await post("IN", "BOLT", "MAIN", str(n + 1), unit_cost="1", at=NOON - timedelta(days=n))
    times = [row[0] for row in await owner.fetch("select recorded_at from stock_ledger order by id")]
    span = {"recorded_from": times[1].isoformat(), "recorded_to": times[4].isoformat()}
    for sort, expected in ((None, ["4", "3", "2"]), ("id", ["2", "3", "4"])):
        seen: list[str] = []
        params: dict[str, Any] = {**span, "limit": 2, **({} if sort is None else {"sort": sort})}
        while True:
            page = (await admin.get(LEDGER, params=params)).json()
            seen += [entry["quantity"] for entry in page["items"]]
            if (cursor := page["next_cursor"]) is None:
                break
            params["cursor"] = cursor
        assert seen == expected
    backwards = {"recorded_from": span["recorded_to"], "recorded_to": span["recorded_from"]}
    assert (await admin.get(LEDGER, params=backwards)).json()["errors"][0]["parameter"] == "recorded_from"
    backwards = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01"}
    assert (await admin.get(LEDGER, params=backwards)).json()["errors"][0]["parameter"] == "from"


async def test_a_traversal_of_the_ledger_shows_each_entry_once_while_it_grows(
    admin: httpx.AsyncClient, post: Post
) -> None:
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    for n in range(5):
        await post("IN", "BOLT", "MAIN", str(n + 1), unit_cost="1")
    seen: list[str] = []
    address: str | None = f"{LEDGER}?limit=2&sku=BOLT"
    while address:
        answer = await admin.get(address)
        seen += [entry["quantity"] for entry in answer.json()["items"]]
        address = answer.links["next"]["url"] if "next" in answer.links else None
        await post("IN", "BOLT", "MAIN", "100", unit_cost="1")
    assert seen == ["5", "4", "3", "2", "1"]


async def test_a_time_is_refused_with_what_to_write_instead(admin: httpx.AsyncClient) -> None:
    zone = "must be a time with its zone, such as 2026-01-31T12:00:00Z, or a date"
    plus = "has lost its plus sign: in an address write + as %2B, as in 2026-01-31T12:00:00%2B01:00"
    bad = {
        "2026-01-15T12:00:00": zone,
        "2026-01-15T": zone,
        "2026-02-30": zone,
        "2026-1-5": zone,
        "0000-01-01": zone,
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
        for address in (
            f"{CURRENT}?as_of={text}",
            f"{LEDGER}?from={text}",
            f"{LEDGER}?to={text}",
            f"{LEDGER}?recorded_from={text}",
            f"{LEDGER}?recorded_to={text}",
        ):
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
        (CURRENT, "location", "NOWHERE"),
        (CURRENT, "as_of", "9999-12-31"),
        (LEDGER, "location", "NOWHERE"),
        (LEDGER, "origin", "SALE"),
        (LEDGER, "sort", "occurred_at"),
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


async def test_page_10_000_of_the_stock_reads_as_much_as_page_1(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, plans: Plans
) -> None:
    """A join with the items read all of them from the first one to where the page is."""
    await fill(owner)
    place = await owner.fetchval("select min(id) from locations")
    await admin.get(CURRENT)
    await plans()  # with those of signing in
    buffers = []
    for item in (0, 500, 900):
        await admin.get(CURRENT, params={"cursor": _cursor(["item_id", "location_id"], [item, place])})
        whole = re.search(r"Buffers: shared(?: hit=([0-9]+))?(?: read=([0-9]+))?", await plans("analyze, buffers"))
        assert whole is not None
        buffers.append(sum(int(count or 0) for count in whole.groups()))
    assert max(buffers) < 1.3 * min(buffers), buffers


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
        ({"location": "L1"}, "stock_ledger_location_id_id_idx"),
    ]
    for params, index in indexes:
        for cursor in ({}, {"cursor": middle}):
            (await admin.get(LEDGER, params={**params, **cursor})).raise_for_status()
            plan = await plans()
            assert f"Index Scan Backward using {index}" in plan, plan
            assert "Sort" not in plan, plan
    half = await owner.fetchrow(
        "select id, recorded_at from stock_ledger where id = (select max(id) / 2 from stock_ledger)"
    )
    middle = _cursor(["recorded_at", "id"], [half["recorded_at"].isoformat(), half["id"]])
    for since in ("2026-01-01", half["recorded_at"].isoformat()):
        for cursor in ({}, {"cursor": middle}):
            for sort, scan in (("-id", "Index Scan Backward"), ("id", "Index Scan")):
                (await admin.get(LEDGER, params={"recorded_from": since, "sort": sort, **cursor})).raise_for_status()
                plan = await plans()
                assert f"{scan} using stock_ledger_recorded_at_id_idx" in plan, plan
                assert "Sort" not in plan, plan


def _cursor(fields: list[str], values: list[object]) -> str:
    return base64.urlsafe_b64encode(json.dumps([fields, values]).encode()).rstrip(b"=").decode()
