"""The reports over HTTP: what a plain model of the books says, in one statement each, and no slower with history."""

import csv
import io
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.inventory.posting import NOON, Post
from tests.inventory.stock import fill, make_item, make_place
from tests.reports.model import KINDS, Books
from tests.support.statements import Plans, Statement

REPORTS = "/api/v1/inventory/reports"
AFTER = (NOON + timedelta(microseconds=1)).isoformat()
YEAR = {"from": "2025-06-01T00:00:00Z", "to": "2026-12-31T00:00:00Z"}
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Kiritimati")
SKUS, PLACES, IN_HOUSE = ("BOLT", "NUT", "RIVET"), ("MAIN", "SHOP", "YARD"), ("MAIN", "SHOP")
REORDER = {"BOLT": Decimal(5), "NUT": Decimal(0), "RIVET": None}

# midnights and changes of the clock in these zones, with the microseconds beside them, and times between
_INSTANTS = [
    datetime.fromisoformat(text).astimezone(UTC)
    for text in (
        "2026-01-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
        "2026-02-01T00:00:00+01:00",
        "2026-03-28T23:00:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-29T22:00:00Z",
        "2026-04-01T00:00:00+02:00",
        "2026-10-24T22:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:00:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T23:00:00Z",
        "2026-10-31T10:00:00Z",
        "2026-11-01T00:00:00-03:30",
    )
]
quantities = st.integers(1, 40).map(lambda eighths: Decimal(eighths) / 8)
moments = st.one_of(
    st.sampled_from(_INSTANTS),
    st.tuples(st.sampled_from(_INSTANTS), st.sampled_from([-1, 1])).map(lambda t: t[0] + timedelta(microseconds=t[1])),
    st.integers(0, 300 * 24 * 2).map(lambda halves: _INSTANTS[0] + timedelta(minutes=30 * halves)),
)
movements = st.tuples(
    st.sampled_from(["IN", "IN", "OUT", "OUT", "ADJUSTMENT", "TRANSFER", "REVALUATION", "ASSEMBLY", "REVERSE"]),
    st.sampled_from(SKUS),
    st.permutations(PLACES),
    quantities,
    st.integers(0, 50_000).map(lambda parts: Decimal(parts) / 10_000),
    moments,
)
looks = st.tuples(
    st.sampled_from(["day", "week", "month"]),
    st.sampled_from(ZONES),
    moments,
    st.one_of(st.none(), moments),
    st.sampled_from([None, *PLACES, "HOUSE"]),
    st.integers(1, 4),
)


NUMBERS = (
    "opening_quantity", *KINDS, "closing_quantity", "opening_value", "received_value", "issued_value", "adjusted_value",
    "assembled_value", "revalued_value", "closing_value", "in", "out", "net", "value",
)  # fmt: skip


async def report(client: httpx.AsyncClient, name: str, **params: Any) -> list[dict[str, Any]]:
    """The rows of all pages."""
    address: str | None = f"{REPORTS}/{name}"
    found: list[dict[str, Any]] = []
    while address:
        # an empty mapping would remove the parameters of the address
        answer = await client.get(address, params=params or None)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        address = answer.links["next"]["url"] if "next" in answer.links else None
        params = {}
    return found


def exact(text: str) -> Fraction:
    assert text == "0" or (text.lstrip("-")[0] != "." and not ("." in text and text.endswith(("0", "."))))
    return Fraction(text)


_REFUSED = ("/problems/insufficient-stock", "/problems/cost-unknown", "/problems/already-reversed")


class Shop:
    """Stock that is moved over HTTP, and the plain books of it, which go on from one example to the next."""

    def __init__(self, admin: httpx.AsyncClient) -> None:
        self.admin = admin
        self.books = Books()
        self.documents: list[tuple[Any, str]] = []

    async def move(
        self, kind: str, sku: str, places: list[str], quantity: Decimal, cost: Decimal, at: datetime
    ) -> None:
        """Nothing happens if the stock does not allow it."""
        at_one = {"sku": sku, "occurred_at": at.isoformat()}
        named = {**at_one, "location": places[0], "quantity": str(quantity)}
        match kind:
            case "REVERSE":
                await self._reverse(quantity, at)
            case "ASSEMBLY":
                others = [{"sku": other, "quantity": "0.5", "location": places[1]} for other in SKUS if other != sku]
                await self._post("assembly", {**named, "components": others}, "assembled")
            case "TRANSFER":
                body = {**at_one, "quantity": str(quantity), "from_location": places[0], "to_location": places[1]}
                await self._line(kind, body, "transferred")
            case "REVALUATION":
                await self._line(kind, {**at_one, "difference": str(cost), "reason": "freight"}, "revalued")
            case "ADJUSTMENT":
                signed = str(quantity if cost > 2 else -quantity)
                await self._line(kind, {**named, "quantity": signed, "reason": "counted"}, "adjusted")
            case "IN":
                await self._line(kind, {**named, "total_cost": str(cost)}, "received")
            case _:
                await self._line(kind, named, "issued")

    async def _line(self, kind: str, body: dict[str, str], what: str) -> None:
        await self._post("movements", {"movements": [{"transaction_type": kind, **body}]}, what)

    async def _reverse(self, quantity: Decimal, at: datetime) -> None:
        if not self.documents:
            return
        document, what = self.documents[int(quantity * 8) % len(self.documents)]
        happened = max(datetime.fromisoformat(entry["occurred_at"]) for entry in document["entries"])
        body: dict[str, Any] = {"reason": "brought back", "occurred_at": max(at, happened).isoformat()}
        first = document["entries"][0]
        if what in ("received", "issued") and abs(Fraction(first["quantity"])) >= Fraction(1, 8):
            body["lines"] = [{"line": first["line"], "quantity": "0.125"}]
        await self._post(f"transactions/{document['transaction_id']}/reverse", body, what)

    async def _post(self, path: str, body: dict[str, Any], what: str) -> None:
        answer = await self.admin.post(f"/api/v1/inventory/stock/{path}", json=body)
        if answer.status_code in (409, 422) and answer.json()["type"] in _REFUSED:
            return
        assert answer.status_code == 201, answer.text
        self.books.post(answer.json(), what)
        self.documents.append((answer.json(), what))


@pytest.fixture
async def shop(admin: httpx.AsyncClient) -> Shop:
    for sku, reorder in REORDER.items():
        body = {"sku": sku, "name": sku, "unit": "pcs", "reorder_point": None if reorder is None else str(reorder)}
        (await admin.post("/api/v1/inventory/items", json=body)).raise_for_status()
    house = await make_place(admin, "HOUSE")
    for code in PLACES:
        await make_place(admin, code, house if code in IN_HOUSE else None, negative=code == "YARD")
    return Shop(admin)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(moves=st.lists(movements, max_size=8), look=looks)
async def test_opening_and_movements_are_closing_as_a_plain_model_of_the_books_says(
    viewer: httpx.AsyncClient, shop: Shop, moves: list[Any], look: Any
) -> None:
    books = shop.books
    for move in moves:
        await shop.move(*move)
    period, zone, since, until, place, limit = look
    since, until = (until, since) if until is not None and until < since else (since, until)
    until = None if until == since else until
    places = None if place is None else set(IN_HOUSE) if place == "HOUSE" else {place}
    at_place = {} if place is None else {"location": place, "descendants": True}
    params: dict[str, Any] = {"period": period, "timezone": zone, "from": since.isoformat(), "limit": limit}
    params |= at_place | ({} if until is None else {"to": until.isoformat()})
    lines = await report(viewer, "movements", **params)
    expected = books.movements(period, zone, since, until, places)
    assert [(line["sku"], line["period"]) for line in lines] == sorted(
        expected, key=lambda key: (SKUS.index(key[0]), key[1])
    )
    for line in lines:
        model = expected[line["sku"], line["period"]]
        numbers = {name: exact(text) for name, text in line.items() if name in NUMBERS}
        assert numbers == {name: model[name] for name in NUMBERS}, line
        assert line["entries"] == model["entries"]
        signed = {kind: -numbers[kind] if kind == "issued" else numbers[kind] for kind in KINDS}
        assert numbers["opening_quantity"] + sum(signed.values()) == numbers["closing_quantity"]
        changed = -numbers["issued_value"] + sum(numbers[f"{k}_value"] for k in ("received", "adjusted", "assembled"))
        assert numbers["opening_value"] + changed + numbers["revalued_value"] == numbers["closing_value"]
    for as_of in (None, since, until):
        when = {} if as_of is None else {"as_of": as_of.isoformat()}
        rows = await report(viewer, "snapshot", limit=limit, **when)
        said = {(row["sku"], row["location"]): (exact(row["on_hand"]), exact(row["value"])) for row in rows}
        assert len(said) == len(rows)
        assert said == books.stock(as_of)
    low = {line["sku"]: exact(line["shortage"]) for line in await report(viewer, "low-stock", limit=1)}
    assert low == {
        sku: Fraction(level) - books.on_hand(sku)
        for sku, level in REORDER.items()
        if level is not None and books.on_hand(sku) <= level
    }
    summary = (await viewer.get(f"{REPORTS}/summary", params=at_place)).json()
    stock = books.stock(None)
    worth = sum((v for (_, code), (_, v) in stock.items() if places is None or code in places), Fraction(0))
    assert exact(summary["stock_value"]) == worth
    if places is None:
        assert summary["low_stock_items"] == len(low)


async def test_a_snapshot_says_of_each_place_what_the_current_stock_does(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post
) -> None:
    bolt, _ = await make_item(admin, "BOLT"), await make_item(admin, "NUT")
    house = await make_place(admin, "HOUSE")
    inner = await make_place(admin, "BIN", house)
    await post("IN", "BOLT", "HOUSE", "3", unit_cost="1.5")
    await post("IN", "BOLT", "BIN", "1", unit_cost="2")
    await post("IN", "NUT", "HOUSE", "1", unit_cost="1")
    await post("OUT", "NUT", "HOUSE", "1", at=NOON + timedelta(hours=1))
    (row,) = await report(viewer, "snapshot", location_id=inner)
    assert row == {
        "item_id": bolt,
        "sku": "BOLT",
        "name": "The BOLT",
        "unit": "pcs",
        "location_id": inner,
        "location": "BIN",
        "location_name": "BIN",
        "on_hand": "1",
        "reserved": "0",
        "available": "1",
        "value": "1.625",
        "unit_value": "1.625",
        "currency": "EUR",
    }
    asked: list[dict[str, Any]] = [
        {}, {"sku": "NUT"}, {"item_id": bolt}, {"item_id": bolt, "sku": "NUT"}, {"sku": "NO SUCH"},
        {"location_id": house}, {"location_id": house, "descendants": True}, {"include_zero": False},
        {"as_of": "2026-01-15"}, {"as_of": AFTER, "location": "HOUSE", "descendants": True, "include_zero": False},
    ]  # fmt: skip
    for params in asked:
        rows = await report(viewer, "snapshot", limit=1, **params)
        current = (await viewer.get("/api/v1/inventory/stock/current", params=params)).json()["items"]
        assert [{name: row[name] for name in current[0]} for row in rows] == current, params


async def test_what_is_low_is_at_or_below_its_reorder_point_or_below_the_threshold(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    for sku, level in (("AT", "2"), ("OVER", "1.999999"), ("NONE", None), ("EMPTY", "0"), ("OLD", "9")):
        body = {"sku": sku, "name": sku, "unit": "pcs", "reorder_point": level}
        (await admin.post("/api/v1/inventory/items", json=body)).raise_for_status()
    await make_place(admin, "MAIN")
    await make_place(admin, "SHOP")
    for sku in ("AT", "OVER", "NONE"):
        await post("IN", sku, "MAIN", "1.5", unit_cost="1")
        await post("IN", sku, "SHOP", "0.5", unit_cost="1")
    await owner.execute("update items set status = 'DISCONTINUED' where sku = 'OLD'")

    async def low(**params: Any) -> list[tuple[str, str, str]]:
        lines = await report(viewer, "low-stock", limit=1, **params)
        return [(line["sku"], line["on_hand"], line["shortage"]) for line in lines]

    assert await low() == [("AT", "2", "0"), ("EMPTY", "0", "0")]
    assert await low(threshold="2") == [("EMPTY", "0", "2")]
    assert [line[0] for line in await low(threshold="2.000001")] == ["AT", "OVER", "NONE", "EMPTY"]
    assert await low(sku="AT") == [("AT", "2", "0")]
    assert await low(sku="OVER") == []
    assert (await viewer.get(f"{REPORTS}/summary")).json()["low_stock_items"] == 2


async def test_what_is_low_at_a_location_is_what_is_available_there(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    for sku in ("BOLT", "NUT", "NEVER"):
        body = {"sku": sku, "name": sku, "unit": "pcs", "reorder_point": "5"}
        (await admin.post("/api/v1/inventory/items", json=body)).raise_for_status()
    house = await make_place(admin, "HOUSE")
    shop = await make_place(admin, "SHOP", house)
    for sku, code, quantity in (("BOLT", "HOUSE", "9"), ("BOLT", "SHOP", "5.5"), ("NUT", "HOUSE", "20")):
        await post("IN", sku, code, quantity, unit_cost="1")
    await owner.execute("update stock_balances set reserved = 0.5 where location_id = $1", shop)

    async def low(**params: Any) -> list[list[str]]:
        fields = ("sku", "on_hand", "reserved", "available", "shortage")
        return [[line[name] for name in fields] for line in await report(viewer, "low-stock", limit=1, **params)]

    assert await low() == [["NEVER", "0", "0", "0", "5"]]
    assert await low(location="SHOP") == [["BOLT", "5.5", "0.5", "5", "0"]]
    assert await low(location_id=shop) == await low(location="SHOP")
    assert await low(location="HOUSE") == []
    assert await low(location="HOUSE", threshold="9.5") == [["BOLT", "9", "0", "9", "0.5"]]
    assert await low(location="HOUSE", descendants=True, threshold="14.5") == [["BOLT", "14.5", "0.5", "14", "0.5"]]
    summary = (await viewer.get(f"{REPORTS}/summary", params={"location": "SHOP"})).json()
    assert (summary["low_stock_items"], summary["active_items"], summary["locations"]) == (1, 1, 1)
    assert (summary["stock_value"], summary["movements_last_7_days"]) == ("5.5", 0)


async def test_a_month_says_what_was_received_sold_and_brought_back_in_money(
    shop: Shop, viewer: httpx.AsyncClient
) -> None:
    """A return counts against the sale, one to the supplier against the receipt."""
    day = datetime(2026, 3, 10, 12, tzinfo=UTC)

    async def at(days: int, kind: str, quantity: str, cost: str = "0") -> None:
        await shop.move(kind, "BOLT", ["MAIN", "SHOP"], Decimal(quantity), Decimal(cost), day + timedelta(days=days))

    await at(-30, "IN", "10", "20")
    await at(0, "IN", "10", "40")
    await at(1, "OUT", "4")
    sale, receipt = shop.documents[-1][0], shop.documents[-2][0]
    for document, quantity in ((sale, "1"), (receipt, "2")):
        body: dict[str, Any] = {"reason": "brought back", "lines": [{"line": 1, "quantity": quantity}]}
        body["occurred_at"] = (day + timedelta(days=2)).isoformat()
        address = f"/api/v1/inventory/stock/transactions/{document['transaction_id']}/reverse"
        (await shop.admin.post(address, json=body)).raise_for_status()
    await at(3, "REVALUATION", "1", "1.5")
    await at(4, "TRANSFER", "5")
    await at(5, "ADJUSTMENT", "1")
    march = {"from": "2026-03-01", "to": "2026-04-01"}
    (line,) = await report(viewer, "movements", **march)
    fields = ("opening_quantity", "received", "issued", "adjusted", "assembled", "transferred", "closing_quantity")
    assert [line[name] for name in fields] == ["10", "8", "3", "-1", "0", "0", "14"]
    # 20 worth 60; 4 sold for 12, of which 3 come back; 8 of the 10 received stay; 15 worth 44.5; one is missing
    money = ("opening_value", "received_value", "issued_value", "adjusted_value", "revalued_value", "closing_value")
    assert [line[name] for name in money] == ["20", "32", "9", "-2.9667", "1.5", "41.5333"]
    assert (line["in"], line["out"], line["net"], line["value"]) == ("11", "6", "4", "21.5333")
    (there,) = await report(viewer, "movements", location="SHOP", **march)
    assert [there[name] for name in ("opening_quantity", "transferred", "closing_quantity")] == ["0", "5", "5"]
    assert [there[name] for name in ("opening_value", "revalued_value", "closing_value")] == ["0", "14.8333", "14.8333"]


async def test_a_return_that_names_no_entry_counts_against_the_sale_too(
    viewer: httpx.AsyncClient, shop: Shop, owner: asyncpg.Connection
) -> None:
    """One that was imported, and one that an earlier version posted."""
    day = datetime(2026, 3, 10, 12, tzinfo=UTC)
    for kind, quantity in (("IN", "10"), ("OUT", "4"), ("IN", "1"), ("IN", "2")):
        await shop.move(kind, "BOLT", ["MAIN", "SHOP"], Decimal(quantity), Decimal(3), day)
    imported, earlier = (document["transaction_id"] for document, _ in shop.documents[-2:])
    await owner.execute(
        "alter table stock_ledger disable trigger user; alter table stock_transactions disable trigger user"
    )
    await owner.execute("update stock_ledger set origin = 'REVERSAL' where transaction_id = $1", imported)
    await owner.execute("update stock_ledger set reason = 'brought back' where transaction_id = $1", earlier)
    await owner.execute("update stock_transactions set reverses = id where id = $1", earlier)
    (line,) = await report(viewer, "movements", **{"from": "2026-03-01", "to": "2026-04-01"})
    assert (line["received"], line["issued"], line["closing_quantity"]) == ("10", "1", "9")
    assert (line["in"], line["out"]) == ("13", "4")


async def test_turnover_says_how_long_the_stock_lasts_and_what_does_not_sell(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post
) -> None:
    """Ten days: 20 on hand for five of them, 10 for the others. IDLE never sells, GONE is sold out."""
    for sku in ("BOLT", "IDLE", "GONE", "NEVER"):
        await make_item(admin, sku)
    await make_place(admin, "MAIN")
    await make_place(admin, "SHOP")
    first, last = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 11, tzinfo=UTC)
    for sku, quantity in (("BOLT", "20"), ("IDLE", "3"), ("GONE", "4")):
        await post("IN", sku, "MAIN", quantity, unit_cost="1.5", at=first - timedelta(days=1))
    await post("OUT", "BOLT", "MAIN", "10", at=first + timedelta(days=5))
    await post("OUT", "GONE", "MAIN", "4", at=first)
    await post("OUT", "BOLT", "MAIN", "1", at=last)
    span = {"from": "2026-01-01", "to": "2026-01-11"}
    bolt, idle, gone = await report(viewer, "turnover", limit=1, **span)
    assert bolt == {
        "item_id": bolt["item_id"],
        "sku": "BOLT",
        "name": "The BOLT",
        "unit": "pcs",
        "days": "10",
        "on_hand": "10",
        "average_on_hand": "15",
        "issued": "10",
        "issued_value": "15",
        "stock_turns": "0.666667",
        "days_of_cover": "10",
        "last_out_at": "2026-01-06T00:00:00Z",
        "days_since_last_out": 5,
        "currency": "EUR",
    }
    fields = ("sku", "on_hand", "average_on_hand", "issued", "stock_turns", "days_of_cover", "days_since_last_out")
    assert [idle[name] for name in fields] == ["IDLE", "3", "3", "0", "0", None, None]
    assert [gone[name] for name in fields] == ["GONE", "0", "0", "4", None, "0", 10]
    assert await report(viewer, "turnover", location="SHOP", **span) == []
    assert [line["sku"] for line in await report(viewer, "turnover", location="MAIN", sku="IDLE", **span)] == ["IDLE"]


async def test_a_period_of_days_is_in_the_zone_of_the_report_else_of_the_company(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    """25 October 2026 has 25 hours in Berlin: from 22:00 of the day before to 23:00, in UTC."""
    await owner.execute("update company set timezone = 'Europe/Berlin'")
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    for moment in ("2026-10-24T22:00:00+00:00", "2026-10-25T22:59:59.999999+00:00", "2026-10-25T23:00:00+00:00"):
        await post("IN", "BOLT", "MAIN", "1", unit_cost="1", at=datetime.fromisoformat(moment))
    day = {"from": "2026-10-25", "to": "2026-10-26", "period": "day"}

    async def days(**params: Any) -> list[tuple[str, str, str]]:
        lines = await report(viewer, "movements", **day, **params)
        return [(line["period"], line["received"], line["closing_quantity"]) for line in lines]

    assert await days() == [("2026-10-25", "2", "2")]
    assert await days(timezone="UTC") == [("2026-10-25", "2", "3")]
    assert [row["on_hand"] for row in await report(viewer, "snapshot", as_of="2026-10-25")] == ["2"]


async def test_the_summary_counts_what_is_there_now(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    empty = (await viewer.get(f"{REPORTS}/summary")).json()
    moment = empty.pop("as_of")
    assert moment.endswith("Z")
    today = datetime.now(UTC).date()
    assert {day["day"] for day in empty["last_days"]} >= {str(today - timedelta(days=n)) for n in range(1, 6)}
    assert {day.pop("entries") for day in empty["last_days"]} == {0}
    assert len(empty.pop("last_days")) == 7
    assert empty == {
        "active_items": 0,
        "locations": 0,
        "stock_value": "0",
        "currency": "EUR",
        "low_stock_items": 0,
        "movements_last_7_days": 0,
    }
    await make_item(admin, "BOLT")
    gone = await make_item(admin, "GONE")
    await admin.delete(f"/api/v1/inventory/items/{gone}")
    await make_item(admin, "IDLE")
    await owner.execute("update items set status = 'INACTIVE' where sku = 'IDLE'")
    await make_place(admin, "MAIN")
    now = datetime.now(UTC)
    await post("IN", "BOLT", "MAIN", "2", unit_cost="1.25", at=now - timedelta(days=6, hours=23))
    await post("IN", "BOLT", "MAIN", "2", unit_cost="1.25", at=now - timedelta(days=7, hours=1))
    full = (await viewer.get(f"{REPORTS}/summary")).json()
    assert (full["active_items"], full["locations"], full["stock_value"]) == (1, 1, "5")
    assert full["movements_last_7_days"] == 1


async def test_the_summary_says_what_came_in_and_went_out_on_each_day_of_the_company(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    """Two minutes apart, and on two days: midnight is that of the company."""
    zone = ZoneInfo("Europe/Berlin")
    await owner.execute("update company set timezone = 'Europe/Berlin'")
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    midnight = datetime.combine(datetime.now(zone).date() - timedelta(days=2), time.min, zone)
    await post("IN", "BOLT", "MAIN", "4", unit_cost="1.25", at=midnight - timedelta(minutes=1))
    await post("IN", "BOLT", "MAIN", "4", unit_cost="1.25", at=midnight + timedelta(minutes=1))
    await post("OUT", "BOLT", "MAIN", "2", at=midnight + timedelta(minutes=2))
    days = (await viewer.get(f"{REPORTS}/summary")).json()["last_days"]
    assert [(day["entries"], day["value_in"], day["value_out"]) for day in days[-4:-1]] == [
        (1, "5", "0"),
        (2, "5", "2.5"),
        (0, "0", "0"),
    ]
    assert days[-3]["day"] == str(midnight.date())
    elsewhere = (await viewer.get(f"{REPORTS}/summary", params={"location": "MAIN"})).json()["last_days"]
    assert elsewhere == days


async def test_a_span_is_the_last_year_in_whole_months_unless_it_is_given(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, post: Post
) -> None:
    await make_item(admin, "BOLT")
    await make_place(admin, "MAIN")
    now = datetime.now(UTC)
    first = now.replace(year=now.year - 1, day=1, hour=0, minute=0, second=0, microsecond=0)
    for at in (first - timedelta(microseconds=1), first, now):
        await post("IN", "BOLT", "MAIN", "1", at=at, unit_cost="1")
    lines = await report(viewer, "movements")
    assert [line["period"] for line in lines] == [first.date().isoformat(), now.date().replace(day=1).isoformat()]
    before = {"from": (first - timedelta(days=40)).isoformat(), "to": first.isoformat()}
    assert [line["in"] for line in await report(viewer, "movements", **before)] == ["1"]
    for end in ("2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        for zone in ZONES:
            answer = await viewer.get(f"{REPORTS}/movements", params={"to": end, "timezone": zone})
            assert answer.status_code == 200, answer.text


async def test_a_bad_parameter_is_named(viewer: httpx.AsyncClient) -> None:
    bad: list[tuple[str, str, dict[str, str]]] = [
        ("movements", "period", {"period": "year"}),
        ("movements", "timezone", {"timezone": "Mars/Olympus"}),
        ("movements", "timezone", {"timezone": "../../etc/passwd"}),
        ("movements", "timezone", {"timezone": "right/Europe/Berlin"}),
        ("movements", "timezone", {"timezone": "localtime"}),
        ("movements", "from", {"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}),
        ("movements", "from", {"from": "2006-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}),
        ("movements", "from", {"from": "9998-01-02T00:00:00Z"}),
        ("movements", "from", {"from": "0001-01-01T00:00:00Z", "to": "0001-01-02T00:00:00Z"}),
        ("movements", "to", {"to": "0001-01-01T00:00:00Z"}),
        ("movements", "to", {"to": "yesterday"}),
        ("movements", "cursor", {"cursor": "x"}),
        ("snapshot", "as_of", {"as_of": "2026-01-32"}),
        ("movements", "location", {"location": "NOWHERE"}),
        ("movements", "location", {"location": "NOWHERE", "location_id": "1"}),
        ("low-stock", "location", {"location": "NOWHERE"}),
        ("turnover", "location", {"location": "NOWHERE"}),
        ("turnover", "timezone", {"timezone": "Mars/Olympus"}),
        ("turnover", "from", {"from": "2026-01-02", "to": "2026-01-02"}),
        ("summary", "location", {"location": "NOWHERE"}),
        ("snapshot", "limit", {"limit": "501"}),
        ("snapshot", "location", {"location": "NOWHERE"}),
        ("low-stock", "threshold", {"threshold": "-1"}),
        ("low-stock", "threshold", {"threshold": "1e3"}),
        ("low-stock", "threshold", {"threshold": "0.0000001"}),
        ("summary", "sku", {"sku": "BOLT"}),
    ]
    for name, parameter, params in bad:
        answer = await viewer.get(f"{REPORTS}/{name}", params=params)
        assert answer.status_code == 422, (name, params, answer.text)
        assert [fault["parameter"] for fault in answer.json()["errors"]] == [parameter]


async def test_who_may_read_which_report(client: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    for name in ("snapshot", "movements", "summary", "low-stock", "turnover"):
        assert (await client.get(f"{REPORTS}/{name}")).status_code == 401
        assert (await viewer.get(f"{REPORTS}/{name}")).status_code == 200
    for name in ("snapshot.csv", "movements.csv"):
        assert (await client.get(f"{REPORTS}/{name}")).status_code == 401
        assert (await viewer.get(f"{REPORTS}/{name}")).status_code == 403


# Files


async def test_a_file_holds_what_the_pages_show(admin: httpx.AsyncClient, post: Post) -> None:
    for sku in ("BOLT", 'RIVET, 5"'):
        await make_item(admin, sku)
        await make_item(admin, f"{sku} two")
    await make_place(admin, "MAIN")
    for n, sku in enumerate(("BOLT", 'RIVET, 5"')):
        await post("IN", sku, "MAIN", "2.5", unit_cost="0.3333", at=NOON + timedelta(days=40 * n))
        await post("OUT", sku, "MAIN", "2.5", at=NOON + timedelta(days=41))
    for name, params in (("snapshot", {}), ("snapshot", {"sku": "BOLT"}), ("movements", YEAR)):
        answer = await admin.get(f"{REPORTS}/{name}.csv", params=params)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert f'filename="stock-{name}-' in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        lines = await report(admin, name, limit=1, **params)
        assert rows == [{key: "" if value is None else str(value) for key, value in line.items()} for line in lines]


async def test_a_file_of_more_than_10_000_rows_is_refused_with_the_way_to_the_exports(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    await owner.execute("""
        insert into items (sku, name, unit) select 'S' || n, 'N' || n, 'pcs' from generate_series(1, 101) n;
        insert into locations (code, name, location_type) select 'L' || n, 'L', 'BIN' from generate_series(1, 100) n;
        insert into stock_balances (item_id, location_id, on_hand)
          select i.id, l.id, 1 from items i, locations l limit 10001;
    """)
    refused = await admin.get(f"{REPORTS}/snapshot.csv")
    assert refused.status_code == 413
    problem = refused.json()
    assert problem["type"] == "/problems/report-too-long"
    assert (problem["export"], problem["dataset"]) == ("/api/v1/exports/jobs", "stock_levels")
    answer = await admin.post(problem["export"], json={"dataset": problem["dataset"]})
    assert answer.status_code == 202
    await owner.execute("delete from stock_balances where (item_id, location_id) in"
                        " (select item_id, location_id from stock_balances limit 1)")  # fmt: skip
    allowed = await admin.get(f"{REPORTS}/snapshot.csv")
    assert allowed.status_code == 200
    assert allowed.text.count("\n") == 10_001


# Plans


async def test_each_report_is_one_statement(admin: httpx.AsyncClient, post: Post, statements: list[Statement]) -> None:
    """So everything in a report is of one snapshot."""
    await make_item(admin, "BOLT")
    place = await make_place(admin, "MAIN")
    await post("IN", "BOLT", "MAIN", "1", unit_cost="1")
    every: list[tuple[str, dict[str, Any]]] = [
        ("snapshot", {"sku": "BOLT", "location_id": place, "descendants": True, "as_of": NOON.isoformat()}),
        ("snapshot.csv", {"sku": "BOLT", "location_id": place, "descendants": True}),
        ("movements", {"sku": "BOLT", "location_id": place}),
        ("movements.csv", {}),
        ("summary", {}),
        ("movements", {"location": "MAIN", "descendants": True}),
        ("summary", {"location": "MAIN"}),
        ("low-stock", {"sku": "BOLT"}),
        ("low-stock", {"location": "MAIN"}),
        ("turnover", {}),
        ("turnover", {"location": "MAIN", "descendants": True}),
    ]
    for name, params in every:
        statements.clear()
        (await admin.get(f"{REPORTS}/{name}", params=params)).raise_for_status()
        of_the_report = [text for text, _ in statements if "items" in text or "stock" in text]
        assert len(of_the_report) == 1, (name, statements)


async def test_a_page_of_movements_reads_the_entries_of_its_own_items_by_index(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, plans: Plans
) -> None:
    """Stock that gets slower with history: S7 has thousands of entries, and no page but its own reads them."""
    await fill(owner)
    await plans()
    place = await owner.fetchval("select min(id) from locations")
    middle = (await admin.get(f"{REPORTS}/movements", params={**YEAR, "limit": 50})).json()["next_cursor"]
    for params in ({}, {"cursor": middle}, {"sku": "S7"}, {"location_id": place}):
        await plans()
        (await admin.get(f"{REPORTS}/movements", params={**YEAR, **params})).raise_for_status()
        plan = await plans()
        assert "stock_ledger_item_id_location_id_occurred_at_idx" in plan, plan
        assert "Seq Scan on stock_ledger" not in plan, plan
        assert "Seq Scan on items" not in plan, plan


async def test_period_in_a_zone_that_is_an_abbreviation_in_postgres_has_its_summer_time(
    viewer: httpx.AsyncClient, shop: Shop
) -> None:
    """Half an hour after midnight of 1 July in CET, which to Postgres is UTC+1 all year."""
    await shop.move("IN", "BOLT", ["MAIN"], Decimal(1), Decimal(2), datetime(2025, 6, 30, 22, 30, tzinfo=UTC))
    for zone in ("CET", "Europe/Berlin"):
        lines = await report(viewer, "movements", timezone=zone, **{"from": "2025-06-01T00:00:00Z"})
        assert [line["period"] for line in lines] == ["2025-07-01"], zone
