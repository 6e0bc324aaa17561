"""What stock costs and is worth: by the invoice's total, by the piece, by the pack; revaluations; kits."""

from decimal import Decimal
from typing import Any

import asyncpg
import httpx

from tests.inventory.books import BOLT, PATH, balance, pointers, post, stocked, worth

BOX = '[{"unit": "BOX", "numerator": 12, "denominator": 1}, {"unit": "PAIR", "numerator": 2, "denominator": 1}]'


async def named(owner: asyncpg.Connection, sku: str, **columns: Any) -> None:
    for name, value in columns.items():
        await owner.execute(f"update items set {name} = $1 where sku = $2", value, sku)


async def test_the_invoice_total_is_what_a_delivery_is_worth(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    """1,000,000 g for 445.00 came out as 400.00 or 500.00 by a unit cost of four decimals."""
    entry = await post(staff, "in", **BOLT, quantity="1000000", total_cost="445")
    assert (entry["value"], entry["unit_cost"]) == ("445", None)
    entry = await post(staff, "in", **BOLT, quantity="30000", unit_cost="0.01782")
    assert (entry["value"], entry["unit_cost"]) == ("534.6", "0.01782")
    both = BOLT | {"quantity": "1", "unit_cost": "1", "total_cost": "1"}
    assert await pointers(staff, "in", both) == ["/total_cost"]
    assert await pointers(staff, "in", BOLT | {"quantity": "1", "total_cost": "0.00001"}) == ["/total_cost"]


async def test_a_cost_that_nobody_stated_is_asked_for_and_nothing_is_guessed(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await stocked(books, "NEW", free=False)
    new = {"sku": "NEW", "location": "MAIN", "quantity": "1"}
    answer = await admin.post(f"{PATH}/in", json=new)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/cost-unknown")
    assert await pointers(admin, "adjustment", new | {"reason": "found"}) == [""]
    lines = [new | {"transaction_type": "OUT", "location": "YARD-"}]
    assert await pointers(admin, "movements", {"movements": lines}) == ["/movements/0"]
    await post(admin, "in", **new, unit_cost="0")
    await post(admin, "revaluation", sku="NEW", unit_value="3", reason="it was no gift")
    assert await worth(books, "NEW") == "1 3"
    assert (await post(admin, "adjustment", **new, reason="found"))["value"] == "3"


async def test_a_count_that_finds_pieces_on_the_next_shelf_loses_nothing(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    """By location, the two pieces came back at no value, and ten euros were gone."""
    await post(admin, "in", **BOLT, quantity="10", unit_cost="5")
    moved = [{"location": "MAIN", "quantity": "-2"}, {"location": "SHOP", "quantity": "2"}]
    lines = [{"transaction_type": "ADJUSTMENT", "sku": "BOLT", "reason": "counted"} | line for line in moved]
    document = await post(admin, "movements", movements=lines)
    assert [entry["value"] for entry in document["entries"]] == ["-10", "10"]
    assert await worth(books, "BOLT") == "10 50"


async def test_what_a_customer_brings_back_without_its_paper_is_worth_the_average(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    """IN 10 at 5, OUT 3, 1 comes back into another location: it came in at zero and spoiled the average."""
    await post(staff, "in", **BOLT, quantity="10", unit_cost="5")
    await post(staff, "out", **BOLT, quantity="3")
    assert (await post(staff, "in", sku="BOLT", location="SHOP", quantity="1"))["value"] == "5"


async def test_stock_sold_before_it_was_paid_for_never_has_a_value_of_the_other_sign(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    yard = {"sku": "BOLT", "location": "YARD-"}
    await post(staff, "in", **yard, quantity="10", unit_cost="5")
    await post(staff, "out", **yard, quantity="20")
    entry = await post(staff, "in", **yard, quantity="9", unit_cost="50")
    assert (entry["settlement"]["value"], entry["settlement"]["origin"]) == ("-450", "SETTLEMENT")
    assert await worth(books, "BOLT") == "-1 -50"
    await post(staff, "out", **yard, quantity="9")
    assert await worth(books, "BOLT") == "-10 -500"


async def test_a_found_piece_may_state_its_cost_and_a_missing_one_may_not(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    found = BOLT | {"quantity": "2", "reason": "found"}
    assert (await post(admin, "adjustment", **found, total_cost="7"))["value"] == "7"
    missing = found | {"quantity": "-1", "unit_cost": "1"}
    assert await pointers(admin, "adjustment", missing) == ["/unit_cost"]


async def test_a_freight_bill_belongs_to_what_is_left_and_the_rest_is_answered(
    admin: httpx.AsyncClient, staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="50", unit_cost="10")
    await post(admin, "out", **BOLT, quantity="20")
    bill = {"sku": "BOLT", "difference": "100", "quantity": "50", "reason": "freight"}
    assert await pointers(staff, "revaluation", bill, 403) == []
    entry = await post(admin, "revaluation", **bill)
    assert (entry["quantity"], entry["value"], entry["not_covered"]) == ("0", "60", "40")
    assert (entry["location"], entry["origin"], entry["reason"]) == (None, "REVALUATION", "freight")
    assert await worth(books, "BOLT") == "30 360"
    document = await admin.get(f"{PATH}/transactions/{entry['transaction_id']}")
    assert document.json()["entries"][0]["not_covered"] == "40"
    await post(admin, "out", **BOLT, quantity="30")
    entry = await post(admin, "revaluation", **bill)
    assert (entry["value"], entry["not_covered"]) == ("0", "100")


async def test_a_price_reduction_without_goods_changes_the_value(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="4", unit_cost="10")
    entry = await post(admin, "revaluation", sku="BOLT", difference="-50", reason="credit note")
    assert (entry["value"], entry["not_covered"]) == ("-40", "-10")
    assert await worth(books, "BOLT") == "4 0"


async def test_a_wrong_cost_is_mended_after_the_first_sale(admin: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    await post(admin, "in", **BOLT, quantity="10", unit_cost="500")
    await post(admin, "out", **BOLT, quantity="1")
    await post(admin, "revaluation", sku="BOLT", unit_value="5", reason="typing error")
    assert await worth(books, "BOLT") == "9 45"
    await post(admin, "revaluation", sku="BOLT", value="46.35", reason="the invoice")
    assert await worth(books, "BOLT") == "9 46.35"
    wrong: dict[str, dict[str, str]] = {
        "/difference": {},
        "/value": {"difference": "1", "value": "1"},
        "/quantity": {"value": "1", "quantity": "2"},
        "/unit": {"value": "1", "unit": "pcs"},
    }
    for pointer, body in wrong.items():
        assert await pointers(admin, "revaluation", {"sku": "BOLT", "reason": "x"} | body) == [pointer]
    await post(admin, "out", **BOLT, quantity="9")
    assert await pointers(admin, "revaluation", {"sku": "BOLT", "reason": "x", "value": "3"}) == ["/value"]


async def test_a_pack_is_an_exact_number_of_pieces(staff: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    """1 piece of a dozen came out as 0.96 elsewhere, and 4.9 of 5."""
    await named(books, "BOLT", units=BOX, decimals=0)
    entry = await post(staff, "in", **BOLT, quantity="2", unit="BOX", unit_cost="10")
    assert (entry["quantity"], entry["unit"], entry["value"]) == ("24", "pcs", "20")
    assert Decimal(entry["unit_cost"]) == Decimal("0.8333333333")
    entry = await post(staff, "out", **BOLT, quantity="0.5", unit="BOX")
    assert entry["quantity"] == "-6"
    assert await pointers(staff, "out", BOLT | {"quantity": "0.3", "unit": "BOX"}) == ["/quantity"]
    assert await pointers(staff, "out", BOLT | {"quantity": "0.5"}) == ["/quantity"]
    assert await pointers(staff, "out", BOLT | {"quantity": "1", "unit": "CASE"}) == ["/unit"]
    answer = await staff.post(f"{PATH}/out", json=BOLT | {"quantity": "1", "unit": "CASE"})
    assert "pcs, BOX, PAIR" in answer.json()["errors"][0]["detail"]


async def test_an_item_is_named_by_its_barcode_or_by_an_id_of_the_client(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await named(books, "BOLT", barcode="4006381333931", external_id="shop/17")
    one = {"location": "MAIN", "quantity": "1"}
    for name in ({"barcode": "4006381333931"}, {"external_id": "shop/17"}):
        assert (await post(staff, "in", **one, **name))["sku"] == "BOLT"
    assert await pointers(staff, "in", one | {"barcode": "4006381333932"}) == ["/barcode"]
    assert await pointers(staff, "in", one | {"sku": "BOLT", "barcode": "4006381333931"}) == ["/barcode"]
    lines = [
        one | {"transaction_type": "IN", "external_id": "shop/17"},
        one | {"transaction_type": "IN", "barcode": "x"},
    ]
    assert await pointers(staff, "movements", {"movements": lines}) == ["/movements/1/barcode"]


async def a_kit(books: asyncpg.Connection, client: httpx.AsyncClient) -> dict[str, Any]:
    """KIT of 2 BOLT worth 0.3333 each and 1 NUT worth 2."""
    await stocked(books, "KIT", "NUT", free=False)
    await post(client, "in", **BOLT, quantity="6", total_cost="2")
    await post(client, "in", sku="NUT", location="SHOP", quantity="5", unit_cost="2")
    parts = [BOLT | {"quantity": "2"}, {"sku": "NUT", "location": "SHOP", "quantity": "1"}]
    return {"sku": "KIT", "location": "SHOP", "quantity": "1", "components": parts}


async def test_a_kit_is_worth_exactly_its_parts(staff: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    body = await a_kit(books, staff)
    document = await post(staff, "assembly", **body)
    entries = [(e["transaction_type"], e["sku"], e["quantity"], e["value"], e["origin"]) for e in document["entries"]]
    assert entries == [
        ("OUT", "BOLT", "-2", "-0.6667", "ASSEMBLY"),
        ("OUT", "NUT", "-1", "-2", "ASSEMBLY"),
        ("IN", "KIT", "1", "2.6667", "ASSEMBLY"),
    ]
    apart = await post(staff, "assembly", **body, disassemble=True)
    assert [(e["transaction_type"], e["sku"], e["quantity"]) for e in apart["entries"]] == [
        ("OUT", "KIT", "-1"),
        ("IN", "BOLT", "2"),
        ("IN", "NUT", "1"),
    ]
    assert sum(Decimal(entry["value"]) for entry in apart["entries"]) == 0
    assert await balance(books, "KIT", "SHOP") == "0 0"


async def test_a_kit_says_what_is_wrong_with_each_part(admin: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    body = await a_kit(books, admin)
    bad = [BOLT | {"quantity": "2", "sku": "NOPE"}, {"sku": "NUT", "quantity": "1"}]
    assert await pointers(admin, "assembly", body | {"components": bad}) == [
        "/components/0/sku",
        "/components/1/location_id",
    ]
    itself = [{"sku": "KIT", "location": "SHOP", "quantity": "1"}]
    assert await pointers(admin, "assembly", body | {"components": itself}) == ["/components/0/sku"]
    twice = [BOLT | {"quantity": "2"}, BOLT | {"quantity": "1"}]
    assert await pointers(admin, "assembly", body | {"unit": "box", "components": twice}) == ["/unit"]
    many = [BOLT | {"quantity": "5"}, BOLT | {"quantity": "5"}]
    assert await pointers(admin, "assembly", body | {"components": many}, 409) == ["/components/1/quantity"]
    idle = [{"sku": "IDLE", "location": "MAIN", "quantity": "1"}]
    assert await pointers(admin, "assembly", body | {"components": idle}, 409) == ["/components/0/sku"]
    assert await pointers(admin, "assembly", body | {"components": []}) == ["/components"]
    apart = body | {"disassemble": True}
    assert await pointers(admin, "assembly", apart) == ["/sku"], "no cost of the kit was ever stated"
