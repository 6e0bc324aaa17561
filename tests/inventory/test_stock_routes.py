"""Movements of stock over HTTP: what they answer, what they refuse, and where the errors point."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import httpx
import msgspec

from tests.inventory.books import BOLT, PATH, balance, pointers, post
from tests.support.clients import UserClient


async def test_a_receipt_answers_its_ledger_entry(staff: UserClient, books: asyncpg.Connection) -> None:
    body = BOLT | {
        "quantity": 12.5,
        "unit_cost": "0.3333",
        "reference_no": "PO-1",
        "notes": "two boxes",
        "occurred_at": "2026-01-15T12:00:00+02:00",
        "metadata": {"lot": "7"},
    }
    answer = await staff.post(f"{PATH}/in", json=body)
    entry = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{PATH}/transactions/{entry['transaction_id']}")
    expected = {
        "line": 1,
        "sku": "BOLT",
        "location": "MAIN",
        "transaction_type": "IN",
        "quantity": "12.5",
        "value": "4.1663",
        "unit_cost": "0.3333",
        "on_hand_after": "12.5",
        "value_after": "4.1663",
        "occurred_at": "2026-01-15T10:00:00Z",
        "reference_no": "PO-1",
        "notes": "two boxes",
        "reason": None,
        "metadata": {"lot": "7"},
        "user_id": staff.user_id,
        "settlement": None,
    }
    assert {name: entry[name] for name in expected} == expected
    document = (await staff.get(answer.headers["Location"])).json()
    del entry["settlement"]
    assert document["entries"] == [entry]


async def test_what_is_posted_is_audited_in_its_own_transaction(staff: UserClient, books: asyncpg.Connection) -> None:
    entry = await post(staff, "in", **BOLT, quantity="2", unit_cost="3")
    await pointers(staff, "out", BOLT | {"quantity": "9"}, 409)
    (row,) = await books.fetch("select * from audit_log")
    assert (row["action"], row["entity_id"]) == ("stock.posted", entry["transaction_id"])
    assert row["user_id"] == staff.user_id
    assert msgspec.json.decode(row["after"])["first"] == [
        {"transaction_type": "IN", "sku": "BOLT", "location": "MAIN", "quantity": "2", "value": "6"}
    ]


async def test_stock_goes_out_at_moving_average_and_the_last_takes_the_rest(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await post(staff, "in", **BOLT, quantity="1", unit_cost="1")
    await post(staff, "in", **BOLT, quantity="2", unit_cost="2")
    values = [(await post(staff, "out", **BOLT, quantity="1"))["value"] for _ in range(3)]
    assert values == ["-1.6667", "-1.6667", "-1.6666"]
    assert (await post(staff, "in", **BOLT, quantity="3"))["value"] == "6"


async def test_an_item_and_a_place_are_named_by_id_or_by_word(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    item = await books.fetchval("select id from items where sku = 'BOLT'")
    place = await books.fetchval("select id from locations where code = 'MAIN'")
    entry = await post(staff, "in", item_id=item, location_id=place, quantity="1")
    assert (entry["sku"], entry["location"]) == ("BOLT", "MAIN")
    assert await pointers(staff, "in", {"quantity": "1"}) == ["/item_id", "/location_id"]
    both = BOLT | {"quantity": "1", "item_id": item, "location_id": place}
    assert await pointers(staff, "in", both) == ["/sku", "/location"]
    unknown = {"item_id": item + 999, "location": "NOWHERE", "quantity": "1"}
    assert await pointers(staff, "in", unknown) == ["/item_id", "/location"]


async def test_not_enough_stock_says_what_is_available(staff: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    await post(staff, "in", **BOLT, quantity="2.5")
    answer = await staff.post(f"{PATH}/out", json=BOLT | {"quantity": "2.500001"})
    assert (answer.status_code, answer.json()["available"]) == (409, "2.5")
    answer = await staff.post(f"{PATH}/out", json={"sku": "BOLT", "location": "SHOP", "quantity": "1"})
    assert (answer.status_code, answer.json()["available"]) == (409, "0")


async def test_a_transfer_changes_no_value(staff: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    await post(staff, "in", **BOLT, quantity="3", unit_cost="0.3333")
    body = {"sku": "BOLT", "from_location": "MAIN", "to_location": "SHOP", "quantity": "2"}
    document = await post(staff, "transfer", **body)
    out, into = document["entries"]
    assert (out["transaction_type"], out["quantity"], out["value"]) == ("TRANSFER_OUT", "-2", "0")
    assert (into["transaction_type"], into["quantity"], into["value"]) == ("TRANSFER_IN", "2", "0")
    assert (out["line"], into["line"]) == (1, 1)
    assert [(entry["on_hand_after"], entry["value_after"]) for entry in (out, into)] == [("1", None), ("2", None)]
    assert await pointers(staff, "transfer", body | {"to_location": "MAIN"}) == ["/to_location"]
    assert await pointers(staff, "transfer", body | {"quantity": "2"}, 409) == ["/quantity"]


async def test_an_adjustment_has_a_sign_a_reason_and_an_admin(
    admin: httpx.AsyncClient, staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await post(staff, "in", **BOLT, quantity="4", unit_cost="2")
    body = BOLT | {"quantity": "-1", "reason": "broken"}
    assert await pointers(staff, "adjustment", body, 403) == []
    lost = await post(admin, "adjustment", **body)
    assert (lost["transaction_type"], lost["value"], lost["reason"]) == ("ADJUSTMENT", "-2", "broken")
    found = await post(admin, "adjustment", **BOLT, quantity="3", reason="counted again")
    assert (found["value"], found["on_hand_after"], found["value_after"]) == ("6", "6", "12")
    assert await pointers(admin, "adjustment", body | {"quantity": "0"}) == ["/quantity"]
    assert await pointers(admin, "adjustment", body | {"reason": "  "}) == ["/reason"]
    assert await pointers(admin, "adjustment", BOLT | {"quantity": "1"}) == ["/reason"]
    assert await pointers(admin, "adjustment", body | {"quantity": "-7"}, 409) == ["/quantity"]


async def test_negative_stock_where_the_place_allows_it_is_settled_on_the_way_back(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    yard = {"sku": "BOLT", "location": "YARD-"}
    await post(staff, "in", **yard, quantity="2", unit_cost="10")
    below = await post(staff, "out", **yard, quantity="5")
    assert (below["on_hand_after"], below["value"], below["value_after"]) == ("-3", "-50", "-30")
    entry = await post(staff, "in", **yard, quantity="4", unit_cost="12")
    assert (entry["value"], entry["value_after"]) == ("48", "18")
    settlement = entry["settlement"]
    assert (settlement["transaction_type"], settlement["quantity"], settlement["value"]) == ("ADJUSTMENT", "0", "-6")
    assert (settlement["value_after"], settlement["reason"]) == ("12", "settlement of negative stock")
    assert await balance(books, "BOLT", "YARD-") == "1 12"


async def test_status_of_the_item_rules_what_it_takes(admin: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    idle, old = {"sku": "IDLE", "location": "MAIN"}, {"sku": "OLD", "location": "MAIN"}
    for body in (idle, old):
        await post(admin, "adjustment", **body, quantity="5", reason="counted")
        answer = await admin.post(f"{PATH}/in", json=body | {"quantity": "1"})
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/item-not-active")
    assert await pointers(admin, "out", idle | {"quantity": "1"}, 409) == ["/sku"]
    away = {"from_location": "MAIN", "to_location": "SHOP", "quantity": "1"}
    assert await pointers(admin, "transfer", {"sku": "IDLE"} | away, 409) == ["/sku"]
    await post(admin, "transfer", sku="OLD", **away)
    out = await post(admin, "out", **old, quantity="1")
    await post(admin, f"transactions/{out['transaction_id']}/reverse", reason="came back")


async def test_a_document_is_applied_in_its_order(admin: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    lines = [
        BOLT | {"transaction_type": "IN", "quantity": "5", "unit_cost": "1"},
        {
            "transaction_type": "TRANSFER",
            "sku": "BOLT",
            "from_location": "MAIN",
            "to_location": "SHOP",
            "quantity": "5",
        },
        BOLT | {"transaction_type": "IN", "quantity": "1", "unit_cost": "7"},
        {"transaction_type": "OUT", "sku": "BOLT", "location": "SHOP", "quantity": "2"},
        BOLT | {"transaction_type": "ADJUSTMENT", "quantity": "-1", "reason": "lost"},
    ]
    document = await post(admin, "movements", movements=lines)
    seen = [(e["line"], e["transaction_type"], e["location"], e["on_hand_after"]) for e in document["entries"]]
    assert seen == [
        (1, "IN", "MAIN", "5"),
        (2, "TRANSFER_OUT", "MAIN", "0"),
        (2, "TRANSFER_IN", "SHOP", "5"),
        (3, "IN", "MAIN", "1"),
        (4, "OUT", "SHOP", "3"),
        (5, "ADJUSTMENT", "MAIN", "0"),
    ]
    assert (await admin.get(f"{PATH}/transactions/{document['transaction_id']}")).json() == document


async def test_every_bad_line_of_a_document_is_named(staff: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    good = BOLT | {"transaction_type": "IN", "quantity": "1"}
    lines = [
        good | {"sku": "NOPE"},
        good,
        good | {"location": "NOPE", "occurred_at": "1899-12-31T23:59:59Z"},
        {
            "transaction_type": "TRANSFER",
            "sku": "BOLT",
            "from_location": "MAIN",
            "to_location": "MAIN",
            "quantity": "1",
        },
    ]
    assert await pointers(staff, "movements", {"movements": lines}) == [
        "/movements/0/sku",
        "/movements/2/location",
        "/movements/2/occurred_at",
        "/movements/3/to_location",
    ]
    idle = [good, good | {"sku": "IDLE"}, good | {"sku": "OLD"}]
    assert await pointers(staff, "movements", {"movements": idle}, 409) == ["/movements/1/sku", "/movements/2/sku"]
    correction = BOLT | {"transaction_type": "ADJUSTMENT", "quantity": "1", "reason": "x"}
    assert await pointers(staff, "movements", {"movements": [good, correction]}, 403) == ["/movements/1"]
    hundred = await pointers(staff, "movements", {"movements": [good | {"sku": "NOPE"}] * 150})
    assert len(hundred) == 100
    assert await books.fetchval("select count(*) from stock_balances") == 0


async def test_a_document_takes_two_thousand_lines_and_no_more(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    line = BOLT | {"transaction_type": "IN", "quantity": "1", "unit_cost": "1.5", "notes": "n" * 300}
    document = await post(staff, "movements", movements=[line] * 2000)
    assert [entry["line"] for entry in document["entries"]] == list(range(1, 2001))
    assert await balance(books, "BOLT", "MAIN") == "2000 3000"
    assert await pointers(staff, "movements", {"movements": [BOLT] * 2001}) != []
    assert await pointers(staff, "movements", {"movements": []}) == ["/movements"]


async def test_what_is_no_quantity_is_refused(staff: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    words = [
        "NaN",
        "Infinity",
        "-1",
        "0",
        "1e3",
        "1_000",
        "٣",
        "",
        " 1",
        "+1",
        "0x1",
        "1,5",
        "1000000000000",
        "9" * 400,
    ]
    others: list[object] = ["0.0000001", 0, -1, 1e30, 1e-7, 10**30, None, True, [], {}]
    for quantity in [*words, *others]:
        assert await pointers(staff, "in", BOLT | {"quantity": quantity}) == ["/quantity"], quantity
        lines = [BOLT | {"transaction_type": "OUT", "quantity": quantity}]
        assert await pointers(staff, "movements", {"movements": lines}) == ["/movements/0/quantity"], quantity


async def test_what_a_receipt_cannot_say_is_refused(staff: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    wrong: dict[str, list[object]] = {
        "unit_cost": ["-0.01", "0.00000000001", "NaN", "100000000000000", True],
        "occurred_at": [
            "2026-01-15T12:00:00",
            "0001-01-01T00:00:00+14:00",
            "1899-12-31T23:59:59Z",
            "9999-12-31T23:59:59-12:00",
            "yesterday",
            0,
        ],
        "metadata": [{str(n): "" for n in range(17)}, [], "a"],
        "reference_no": ["", "x" * 101, "a\x00b", 7],
        "notes": ["x" * 2001],
        "item_id": [0, 2**53, "1", 1.5],
        "transaction_type": ["IN"],
        "reason": ["not of a receipt"],
    }
    for field, values in wrong.items():
        for value in values:
            assert await pointers(staff, "in", BOLT | {"quantity": "1", field: value}) == [f"/{field}"], (field, value)
    entries: list[dict[str, object]] = [{"": "x"}, {"k" * 101: "x"}, {"a": "v" * 501}, {"a": 1}, {"a": {"b": "c"}}]
    for entry in entries:
        (pointer,) = await pointers(staff, "in", BOLT | {"quantity": "1", "metadata": entry})
        assert pointer == f"/metadata/{next(iter(entry))}"
    assert await books.fetchval("select count(*) from stock_balances") == 0


async def test_what_happened_may_be_five_minutes_ahead(staff: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    await post(staff, "in", **BOLT, quantity="1", occurred_at=(now + timedelta(minutes=4)).isoformat())
    ahead = BOLT | {"quantity": "1", "occurred_at": (now + timedelta(minutes=6)).isoformat()}
    assert await pointers(staff, "in", ahead) == ["/occurred_at"]


async def test_what_the_ledger_cannot_hold_is_refused_with_its_line(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    most = BOLT | {"quantity": "999999999999", "transaction_type": "IN"}
    assert await pointers(staff, "movements", {"movements": [most, most]}) == ["/movements/1/quantity"]
    dear = most | {"unit_cost": "99999999999999"}
    assert await pointers(staff, "movements", {"movements": [dear]}) == ["/movements/0/quantity"]
    below = {"sku": "BOLT", "location": "YARD-", "quantity": "999999999999"}
    await post(staff, "out", **below)
    assert await pointers(staff, "out", below) == ["/quantity"]


async def test_a_viewer_moves_nothing(viewer: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    for what in ("in", "out", "transfer", "adjustment", "movements", f"transactions/{uuid4()}/reverse"):
        assert await pointers(viewer, what, {}, 403) == []
    assert (await viewer.get(f"{PATH}/transactions/{uuid4()}")).status_code == 403
