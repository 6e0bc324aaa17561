"""Documents that are taken back: with which value, in which order, once, and when not."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from tests.inventory.books import BOLT, PATH, balance, pointers, post, stocked, worth


async def reverse(client: httpx.AsyncClient, document: Any, reason: str = "a mistake") -> httpx.Response:
    return await client.post(f"{PATH}/transactions/{document['transaction_id']}/reverse", json={"reason": reason})


async def test_a_reversal_takes_back_the_value_that_came_in(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="1", unit_cost="1")
    wrong = await post(admin, "in", **BOLT, quantity="1", unit_cost="9", reference_no="PO-9")
    answer = await reverse(admin, wrong)
    (entry,) = answer.json()["entries"]
    assert (entry["transaction_type"], entry["quantity"], entry["value"]) == ("OUT", "-1", "-9")
    assert (entry["reason"], entry["reference_no"]) == ("a mistake", "PO-9")
    assert answer.json()["reverses"] == wrong["transaction_id"]
    assert await balance(books, "BOLT", "MAIN") == "1 1"
    again = await reverse(admin, answer.json(), "it was right")
    assert [e["value"] for e in again.json()["entries"]] == ["9"]
    assert await balance(books, "BOLT", "MAIN") == "2 10"
    audit = await books.fetch("select reason from audit_log where action = 'stock.reversed' order by id")
    assert [row["reason"] for row in audit] == ["a mistake", "it was right"]


async def test_a_document_is_reversed_in_the_opposite_order(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    lines = [
        BOLT | {"transaction_type": "IN", "quantity": "3", "unit_cost": "0.3333"},
        {
            "transaction_type": "TRANSFER",
            "sku": "BOLT",
            "from_location": "MAIN",
            "to_location": "SHOP",
            "quantity": "2",
        },
        {"transaction_type": "OUT", "sku": "BOLT", "location": "SHOP", "quantity": "1"},
        BOLT | {"transaction_type": "ADJUSTMENT", "quantity": "2", "reason": "found"},
    ]
    document = await post(admin, "movements", movements=lines)
    entries = (await reverse(admin, document)).json()["entries"]
    assert [(e["transaction_type"], e["location"], e["quantity"]) for e in entries] == [
        ("ADJUSTMENT", "MAIN", "-2"),
        ("IN", "SHOP", "1"),
        ("TRANSFER_OUT", "SHOP", "-2"),
        ("TRANSFER_IN", "MAIN", "2"),
        ("OUT", "MAIN", "-3"),
    ]
    assert [await balance(books, "BOLT", code) for code in ("MAIN", "SHOP")] == ["0 0", "0 0"]


async def test_a_document_is_reversed_once_also_when_many_try_at_once(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="50")
    document = await post(admin, "in", **BOLT, quantity="5")
    before = (await admin.get(f"{PATH}/transactions/{document['transaction_id']}")).headers["ETag"]
    answers = await asyncio.gather(*(reverse(admin, document) for _ in range(8)))
    (done,) = [answer for answer in answers if answer.status_code == 201]
    refused = [answer.json()["type"] for answer in answers if answer is not done]
    assert refused == ["/problems/already-reversed"] * 7
    shown = await admin.get(f"{PATH}/transactions/{document['transaction_id']}", headers={"If-None-Match": before})
    assert shown.json()["reversed_by"] == [done.json()["transaction_id"]]
    assert await balance(books, "BOLT", "MAIN") == "50 0"


async def test_what_is_no_longer_there_cannot_be_taken_back(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    document = await post(admin, "in", **BOLT, quantity="5")
    await post(admin, "out", **BOLT, quantity="3")
    answer = await reverse(admin, document)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/insufficient-stock")
    assert answer.json()["available"] == "2"
    assert (await reverse(admin, {"transaction_id": uuid4()})).status_code == 404
    assert (await reverse(admin, {"transaction_id": "junk"})).status_code == 404


async def test_a_reversal_to_a_deleted_item_is_refused(admin: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    await post(admin, "in", **BOLT, quantity="5")
    document = await post(admin, "out", **BOLT, quantity="5")
    await books.execute("update items set deleted_at = now() where sku = 'BOLT'")
    answer = await reverse(admin, document)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")


async def test_a_return_in_parts_gives_back_exactly_what_was_taken(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    """Three thirds of a value that is not divisible by three: credit notes line by line came to a cent more."""
    await post(admin, "in", **BOLT, quantity="3", total_cost="10")
    sold = await post(admin, "out", **BOLT, quantity="3")
    path = f"transactions/{sold['transaction_id']}/reverse"
    values = []
    for _ in range(3):
        document = await post(admin, path, reason="came back", lines=[{"line": 1, "quantity": "1"}])
        (entry,) = document["entries"]
        assert (entry["transaction_type"], entry["origin"], entry["reverses_id"]) == ("IN", "REVERSAL", sold["id"])
        values.append(entry["value"])
    assert values == ["3.3333", "3.3334", "3.3333"]
    answer = await admin.post(f"{PATH}/{path}", json={"reason": "again", "lines": [{"line": 1, "quantity": "1"}]})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/already-reversed")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/lines/0/line"]
    shown = (await admin.get(f"{PATH}/transactions/{sold['transaction_id']}")).json()
    assert len(shown["reversed_by"]) == 3


async def test_the_rest_of_a_document_is_reversed_line_by_line(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await stocked(books, "NUT")
    lines = [
        BOLT | {"transaction_type": "IN", "quantity": "10", "unit_cost": "5"},
        {"transaction_type": "IN", "sku": "NUT", "location": "MAIN", "quantity": "4", "unit_cost": "1"},
        {
            "transaction_type": "TRANSFER",
            "sku": "BOLT",
            "from_location": "MAIN",
            "to_location": "SHOP",
            "quantity": "6",
        },
        {"transaction_type": "REVALUATION", "sku": "BOLT", "difference": "7", "reason": "freight"},
    ]
    document = await post(admin, "movements", movements=lines)
    path = f"transactions/{document['transaction_id']}/reverse"
    some = [{"line": 3, "quantity": "2"}, {"line": 1, "quantity": "4"}, {"line": 4}]
    part = await post(admin, path, reason="some of it", lines=some)
    assert [(e["transaction_type"], e["quantity"], e["value"]) for e in part["entries"]] == [
        ("ADJUSTMENT", "0", "-7"),
        ("TRANSFER_OUT", "-2", "0"),
        ("TRANSFER_IN", "2", "0"),
        ("OUT", "-4", "-20"),
    ]
    too_much = {"reason": "x", "lines": [{"line": 1, "quantity": "6.5"}, {"line": 3, "quantity": "5"}, {"line": 9}]}
    assert await pointers(admin, path, too_much) == ["/lines/2/line"]
    assert await pointers(admin, path, too_much | {"lines": too_much["lines"][:2]}, 409) == [
        "/lines/0/quantity",
        "/lines/1/quantity",
    ]
    twice = [{"line": 2, "quantity": "1"}, {"line": 2, "quantity": "1"}]
    assert await pointers(admin, path, {"reason": "x", "lines": twice}) == ["/lines/1/line"]
    assert await pointers(admin, path, {"reason": "x", "lines": [{"line": 4, "quantity": "1"}]}) == [
        "/lines/0/quantity"
    ]
    rest = await post(admin, path, reason="all of it")
    assert [(e["sku"], e["quantity"]) for e in rest["entries"]] == [
        ("BOLT", "-4"),
        ("BOLT", "4"),
        ("NUT", "-4"),
        ("BOLT", "-6"),
    ]
    assert await worth(books, "BOLT") == "0 0"


async def test_parts_that_many_take_back_at_once_never_exceed_the_line(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="20")
    sold = await post(admin, "out", **BOLT, quantity="5")
    path = f"{PATH}/transactions/{sold['transaction_id']}/reverse"
    body = {"reason": "came back", "lines": [{"line": 1, "quantity": "2"}]}
    answers = await asyncio.gather(*(admin.post(path, json=body) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409, 409]
    assert await balance(books, "BOLT", "MAIN") == "19 0"


async def test_a_purchase_return_leaves_stock_and_books_with_one_number(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    """Elsewhere stock left at the average (516.66) and the account at the price (500), and the two never agreed again.
    Here the entry leaves at what was paid; if that is no longer all there, the settlement beside it says the rest."""
    await post(admin, "in", **BOLT, quantity="2", unit_cost="525")
    bought = await post(admin, "in", **BOLT, quantity="1", unit_cost="500")
    (entry,) = (await reverse(admin, bought)).json()["entries"]
    assert entry["value"] == "-500"
    assert await worth(books, "BOLT") == "2 1050"
    dear = await post(admin, "in", **BOLT, quantity="1", unit_cost="900")
    await post(admin, "out", **BOLT, quantity="2")
    own, settlement = (await reverse(admin, dear)).json()["entries"]
    assert (own["value"], settlement["value"], settlement["origin"]) == ("-900", "250", "SETTLEMENT")
    assert settlement["reason"] == "what is given back was no longer all there"
    assert await worth(books, "BOLT") == "0 0"


async def test_what_comes_back_into_another_warehouse_is_worth_what_it_was_sold_at(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    """Elsewhere it came in at that warehouse's own average. Here it comes back, and moving it changes nothing."""
    await post(admin, "in", **BOLT, quantity="2", unit_cost="10")
    sold = await post(admin, "out", **BOLT, quantity="1")
    await post(admin, "in", sku="BOLT", location="SHOP", quantity="5", unit_cost="100")
    (entry,) = (await reverse(admin, sold)).json()["entries"]
    assert entry["value"] == "10"
    before = await worth(books, "BOLT")
    await post(admin, "transfer", sku="BOLT", from_location="MAIN", to_location="SHOP", quantity="1")
    assert await worth(books, "BOLT") == before == "7 520"


async def test_a_voided_document_brings_its_old_cost_on_a_new_date_only_as_itself(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    """What a reversal brings back does not become the cost of what comes later."""
    await post(admin, "in", **BOLT, quantity="1", unit_cost="3")
    sold = await post(admin, "out", **BOLT, quantity="1")
    await post(admin, "in", **BOLT, quantity="1", unit_cost="8")
    await post(admin, "out", **BOLT, quantity="1")
    await reverse(admin, sold)
    await post(admin, "out", **BOLT, quantity="1")
    assert (await post(admin, "in", **BOLT, quantity="1"))["value"] == "8"
