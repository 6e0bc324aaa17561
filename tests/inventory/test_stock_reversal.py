"""Documents that are taken back: with which value, in which order, once, and when not."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from tests.inventory.books import BOLT, PATH, balance, post


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
