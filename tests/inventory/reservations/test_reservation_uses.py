"""An OUT that names a reservation takes what it holds first."""

from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.inventory.books import BOLT, PATH, pointers, post
from tests.inventory.reservations.reserving import (
    ended,
    expire,
    read,
    receive,
    release,
    reserve,
    reserved,
    short,
)


async def test_buyer_is_not_blocked_by_his_own_hold_and_others_are(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    """woocommerce 67354."""
    await receive(staff, "1")
    made = await reserve(staff)
    assert short(await staff.post(f"{PATH}/out", json=BOLT | {"quantity": "1"})) == "0"
    entry = await post(staff, "out", **BOLT, quantity="1", reservation_id=made["id"])
    assert (entry["quantity"], entry["value"]) == ("-1", "-2")
    seen = await read(staff, made)
    assert (seen["status"], seen["quantity"], seen["original_quantity"]) == ("USED", "0", "1")
    assert seen["ended_at"] is not None
    assert await reserved(stock) == "0 0"


@pytest.mark.parametrize(("quantity", "left"), [("1", "9 2"), ("3", "7 0"), ("5", "5 0")])
async def test_less_leaves_the_rest_held_and_more_takes_what_is_available(
    staff: httpx.AsyncClient, stock: asyncpg.Connection, quantity: str, left: str
) -> None:
    await receive(staff, "10")
    made = await reserve(staff, "3")
    await post(staff, "out", **BOLT, quantity=quantity, reservation_id=made["id"])
    assert await reserved(stock) == left
    seen = await read(staff, made)
    assert (seen["status"], seen["version"]) == ("ACTIVE" if quantity == "1" else "USED", 2)


async def test_more_than_own_and_available_is_refused_and_the_hold_stays(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "10")
    made = await reserve(staff, "3")
    await reserve(staff, "5")
    body = BOLT | {"quantity": "5.5", "reservation_id": made["id"]}
    assert short(await staff.post(f"{PATH}/out", json=body)) == "5"
    assert await read(staff, made) == made
    assert await reserved(stock) == "10 8"


async def test_same_reservation_twice_in_one_document_counts_once(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "10")
    made = await reserve(staff, "3")
    await reserve(staff, "5")
    line = {"transaction_type": "OUT", **BOLT, "reservation_id": made["id"]}

    async def sell(*quantities: str) -> httpx.Response:
        return await staff.post(f"{PATH}/movements", json={"movements": [line | {"quantity": q} for q in quantities]})

    # 2 are available beside the 3 that are held
    assert short(await sell("2", "4")) == "3"
    answer = await sell("3", "2")
    assert ended(answer) == "USED"
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/movements/1/reservation_id"]
    assert (await sell("2", "3")).status_code == 201
    assert await reserved(stock) == "5 5"
    assert (await read(staff, made))["version"] == 2


async def test_two_reservations_in_one_document(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    await receive(staff, "5")
    await receive(staff, "5", sku="NUT", location="SHOP")
    bolts, nuts = await reserve(staff, "5"), await reserve(staff, "5", sku="NUT", location="SHOP")
    lines = [
        {"transaction_type": "OUT", **BOLT, "quantity": "4", "reservation_id": bolts["id"]},
        {"transaction_type": "IN", **BOLT, "quantity": "1"},
        {"transaction_type": "OUT", "sku": "NUT", "location": "SHOP", "quantity": "5", "reservation_id": nuts["id"]},
        {"transaction_type": "OUT", **BOLT, "quantity": "1"},
    ]
    await post(staff, "movements", movements=lines)
    assert (await reserved(stock), await reserved(stock, "NUT", "SHOP")) == ("1 1", "0 0")


async def test_reservation_of_something_else_is_none(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    for place in ({}, {"location": "SHOP"}, {"sku": "NUT"}):
        await receive(staff, "5", **place)
    others = [await reserve(staff, location="SHOP"), await reserve(staff, sku="NUT"), {"id": str(uuid4())}]
    body = BOLT | {"quantity": "1"}
    for other in others:
        assert await pointers(staff, "out", body | {"reservation_id": other["id"]}) == ["/reservation_id"]
    lines = [{"transaction_type": "OUT", **body, "reservation_id": other["id"]} for other in others]
    named = [f"/movements/{n}/reservation_id" for n in range(3)]
    assert await pointers(staff, "movements", {"movements": lines}) == named
    assert await reserved(stock) == "5 0"


async def test_reservation_is_used_at_its_own_place_only_whatever_else_the_document_takes_of_it(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "5")
    await receive(staff, "5", location="SHOP")
    made = await reserve(staff, "4")
    await reserve(staff, "2", location="SHOP")
    line = {"transaction_type": "OUT", **BOLT, "quantity": "1", "reservation_id": made["id"]}
    document = {"movements": [line, line | {"location": "SHOP"}]}
    assert await pointers(staff, "movements", document) == ["/movements/1/reservation_id"]
    assert (await reserved(stock), await reserved(stock, code="SHOP")) == ("5 4", "5 2")


async def test_ended_reservation_is_not_used_however_much_is_available(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "9")
    gone, used, swept = [await reserve(staff) for _ in range(3)]
    await release(staff, gone)
    await post(staff, "out", **BOLT, quantity="1", reservation_id=used["id"])
    await expire(stock, swept)
    await post(staff, "out", **BOLT, quantity="1")
    for made, status in ((gone, "RELEASED"), (used, "USED"), (swept, "EXPIRED")):
        body = BOLT | {"quantity": "1", "reservation_id": made["id"]}
        assert ended(await staff.post(f"{PATH}/out", json=body)) == status
    assert await reserved(stock) == "7 0"


async def test_expired_reservation_is_still_used_while_nobody_needed_its_stock(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "3")
    made = await reserve(staff, "2")
    await expire(stock, made)
    await post(staff, "out", **BOLT, quantity="1", reservation_id=made["id"])
    assert await reserved(stock) == "2 0", "and what was left of it is held no longer"
    seen = await read(staff, made)
    assert (seen["status"], seen["quantity"]) == ("EXPIRED", "1")


async def test_stock_that_may_be_negative_goes_out_whatever_is_reserved(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "3", location="YARD-")
    made = await reserve(staff, "2", location="YARD-")
    out = {"sku": "BOLT", "location": "YARD-"}
    await post(staff, "out", **out, quantity="3")
    assert await reserved(stock, code="YARD-") == "0 2"
    await post(staff, "out", **out, quantity="3", reservation_id=made["id"])
    assert await reserved(stock, code="YARD-") == "-3 0"
