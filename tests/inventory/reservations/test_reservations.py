"""Reserving, releasing and extending over HTTP, each fault by the name that others reported it under."""

from datetime import datetime, timedelta
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from tests.inventory.books import BOLT, pointers, post
from tests.inventory.reservations.reserving import (
    HOUR,
    RESERVATIONS,
    ended,
    expire,
    extend,
    read,
    receive,
    release,
    reserve,
    reserved,
    short,
)
from tests.support.clients import UserClient


async def test_reservation_answers_what_it_holds_and_until_when(staff: UserClient, stock: asyncpg.Connection) -> None:
    await receive(staff, "5")
    body = BOLT | {"quantity": "2.5", "expires_in_seconds": 900, "reference": "ORDER-1"}
    answer = await staff.post(RESERVATIONS, json=body)
    made = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{RESERVATIONS}/{made['id']}")
    expected = {
        "sku": "BOLT",
        "location": "MAIN",
        "status": "ACTIVE",
        "quantity": "2.5",
        "original_quantity": "2.5",
        "unit": "pcs",
        "reference": "ORDER-1",
        "ended_at": None,
        "user_id": staff.user_id,
        "version": 1,
    }
    assert {name: made[name] for name in expected} == expected
    created_at, expires_at = (datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at"))
    assert expires_at - created_at == timedelta(minutes=15)
    again = await staff.get(answer.headers["Location"])
    assert (again.json(), again.headers["ETag"]) == (made, answer.headers["ETag"])
    assert await reserved(stock) == "5 2.5"


async def test_more_than_available_is_refused_also_where_stock_may_be_negative(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "5")
    await reserve(staff, "3")
    body = BOLT | {"quantity": "2.000001", "expires_in_seconds": HOUR}
    answer = await staff.post(RESERVATIONS, json=body)
    assert (short(answer), answer.json()["errors"][0]["pointer"]) == ("2", "/quantity")
    assert short(await staff.post(RESERVATIONS, json=body | {"location": "SHOP"})) == "0"
    yard = body | {"location": "YARD-"}
    assert short(await staff.post(RESERVATIONS, json=yard)) == "0"
    await post(staff, "out", sku="BOLT", location="YARD-", quantity="4")
    assert short(await staff.post(RESERVATIONS, json=yard)) == "0"
    assert await reserved(stock) == "5 3"


async def test_same_item_twice_in_one_request_does_not_reserve_more_than_there_is(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    """medusajs/medusa 16502."""
    await receive(staff, "3")
    line = BOLT | {"quantity": "2", "expires_in_seconds": HOUR}
    answer = await staff.post(f"{RESERVATIONS}/bulk", json={"reservations": [line, line]})
    assert (short(answer), answer.json()["errors"][0]["pointer"]) == ("1", "/reservations/1/quantity")
    assert await reserved(stock) == "3 0", "all or none"
    answer = await staff.post(f"{RESERVATIONS}/bulk", json={"reservations": [line, line | {"quantity": "1"}]})
    assert answer.status_code == 201
    assert [one["quantity"] for one in answer.json()["reservations"]] == ["2", "1"]
    assert await reserved(stock) == "3 3"


async def test_several_at_once_name_every_bad_line(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    lines = [
        BOLT | {"quantity": "1", "expires_in_seconds": HOUR},
        {"sku": "NONE", "location": "MAIN", "quantity": "1", "expires_in_seconds": HOUR},
        {"location": "NOWHERE", "quantity": "1", "unit": "crate", "expires_in_seconds": HOUR, "barcode": "1"},
        {"sku": "NUT", "location": "MAIN", "quantity": "1", "unit": "crate", "expires_in_seconds": HOUR},
    ]
    answer = await staff.post(f"{RESERVATIONS}/bulk", json={"reservations": lines})
    assert answer.status_code == 422
    named = [fault["pointer"] for fault in answer.json()["errors"]]
    at = "/reservations/{}/{}".format
    assert named == [at(1, "sku"), at(2, "barcode"), at(2, "location"), at(3, "unit")]
    assert (await staff.post(f"{RESERVATIONS}/bulk", json={"reservations": []})).status_code == 422
    assert (await staff.post(f"{RESERVATIONS}/bulk", json={"reservations": lines[:1] * 201})).status_code == 422


@pytest.mark.parametrize("seconds", [0, -1, 366 * 86400 + 1, "60", 1.5, None])
async def test_a_time_that_is_no_number_of_seconds_up_to_a_year_is_refused(
    staff: httpx.AsyncClient, stock: asyncpg.Connection, seconds: object
) -> None:
    body = BOLT | {"quantity": "1", "expires_in_seconds": seconds}
    answer = await staff.post(RESERVATIONS, json=body)
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/expires_in_seconds"]


async def test_packs_and_statuses_count_as_for_a_movement(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    await stock.execute(
        """update items set decimals = 0, units = '[{"unit": "box", "numerator": 12, "denominator": 1}]'"""
        " where sku = 'BOLT'"
    )
    await receive(staff, "30")
    made = await reserve(staff, "2", unit="box")
    assert (made["quantity"], made["unit"]) == ("24", "pcs")
    body = BOLT | {"quantity": "0.5", "expires_in_seconds": HOUR}
    assert (await staff.post(RESERVATIONS, json=body)).json()["errors"][0]["pointer"] == "/quantity"
    await stock.execute("update items set status = 'DISCONTINUED' where sku = 'BOLT'")
    await reserve(staff, "1")
    await stock.execute("update items set status = 'INACTIVE' where sku = 'BOLT'")
    answer = await staff.post(RESERVATIONS, json=body | {"quantity": "1"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/item-not-active")
    assert await release(staff, made) == 204


async def test_only_staff_reserve(viewer: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    assert (await viewer.get(RESERVATIONS)).status_code == 403
    assert (await viewer.post(RESERVATIONS, json=BOLT)).status_code == 403


async def test_retry_with_the_same_key_reserves_once(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    await receive(staff, "5")
    body, key = BOLT | {"quantity": "2", "expires_in_seconds": HOUR}, {"Idempotency-Key": str(uuid4())}
    first, again = [await staff.post(RESERVATIONS, json=body, headers=key) for _ in range(2)]
    assert (first.text, again.headers["Idempotency-Replayed"]) == (again.text, "true")
    assert await reserved(stock) == "5 2"


async def test_what_is_reserved_goes_out_by_no_other_way(
    staff: httpx.AsyncClient, admin: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    received = await post(staff, "in", **BOLT, quantity="5", unit_cost="2")
    await reserve(staff, "3")
    ways = {
        "out": BOLT | {"quantity": "3"},
        "transfer": {"sku": "BOLT", "from_location": "MAIN", "to_location": "SHOP", "quantity": "3"},
        "adjustment": BOLT | {"quantity": "-3", "reason": "lost"},
        "assembly": {
            "sku": "NUT",
            "location": "MAIN",
            "quantity": "1",
            "components": [{"sku": "BOLT", "location": "MAIN", "quantity": "3"}],
        },
        "movements": {"movements": [{"transaction_type": "OUT", **BOLT, "quantity": "3"}]},
    }
    for way, body in ways.items():
        assert short(await admin.post(f"/api/v1/inventory/stock/{way}", json=body)) == "2", way
    reverse = f"/api/v1/inventory/stock/transactions/{received['transaction_id']}/reverse"
    assert short(await admin.post(reverse, json={"reason": "mistake"})) == "2"
    await post(staff, "out", **BOLT, quantity="2")
    assert await reserved(stock) == "3 3"


async def test_releasing_twice_releases_nothing_more(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    """vendurehq/vendure 1557, magento/inventory 1849: a cancellation released what was never held, or twice."""
    await receive(staff, "5")
    made, other = await reserve(staff, "2"), await reserve(staff, "3")
    assert [await release(staff, made) for _ in range(3)] == [204, 204, 204]
    assert await reserved(stock) == "5 3"
    assert (await read(staff, made))["version"] == 2, "it was changed once"
    assert (await read(staff, other))["status"] == "ACTIVE"
    assert (await staff.delete(f"{RESERVATIONS}/{uuid4()}")).status_code == 404


async def test_a_hold_can_be_let_go_early(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    """Shopify/mobile-buy-sdk-ios 644."""
    await receive(staff, "1")
    made = await reserve(staff)
    assert await release(staff, made) == 204
    seen = await read(staff, made)
    assert (seen["status"], seen["quantity"], seen["ended_at"] is None) == ("RELEASED", "1", False)
    await reserve(staff)


async def test_release_after_a_part_was_used_releases_the_rest(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    """metasfresh 24360: a phantom reservation after a partly shipped order was cut."""
    await receive(staff, "10")
    made = await reserve(staff, "4")
    await post(staff, "out", **BOLT, quantity="3", reservation_id=made["id"])
    assert await reserved(stock) == "7 1"
    assert await release(staff, made) == 204
    assert await reserved(stock) == "7 0"
    seen = await read(staff, made)
    assert (seen["status"], seen["quantity"], seen["original_quantity"]) == ("RELEASED", "1", "4")


async def test_release_of_what_was_used_up_says_so(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    await receive(staff, "2")
    made = await reserve(staff, "2")
    await post(staff, "out", **BOLT, quantity="2", reservation_id=made["id"])
    assert ended(await staff.delete(f"{RESERVATIONS}/{made['id']}")) == "USED"
    assert ended(await extend(staff, made)) == "USED"


async def test_cancelling_an_order_releases_it_at_every_location(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    """EvanTenenbaum/terp-operator 287, grandnode 560: not at all, or only at the first."""
    for code in ("MAIN", "SHOP"):
        await receive(staff, "2", location=code)
    lines = [
        {"sku": "BOLT", "location": code, "quantity": "2", "expires_in_seconds": HOUR, "reference": "ORDER-9"}
        for code in ("MAIN", "SHOP")
    ]
    assert (await staff.post(f"{RESERVATIONS}/bulk", json={"reservations": lines})).status_code == 201
    page = (await staff.get(RESERVATIONS, params={"reference": "ORDER-9"})).json()
    assert [await release(staff, one) for one in page["items"]] == [204, 204]
    assert [await reserved(stock, code=code) for code in ("MAIN", "SHOP")] == ["2 0", "2 0"]


async def test_release_of_what_somebody_changed_is_refused_and_its_retry_is_not(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "2")
    made = await reserve(staff, "2")
    before = {"If-Match": '"1"'}
    assert (await extend(staff, made)).headers["ETag"] == '"2"'
    assert (await staff.delete(f"{RESERVATIONS}/{made['id']}", headers=before)).status_code == 412
    assert await reserved(stock) == "2 2"
    for _ in range(2):
        assert (await staff.delete(f"{RESERVATIONS}/{made['id']}", headers={"If-Match": '"2"'})).status_code == 204


async def test_extension_counts_from_now(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    await receive(staff, "2")
    made = await reserve(staff, expires_in_seconds=86400)
    later = (await extend(staff, made, 60)).json()
    assert later["expires_at"] < made["expires_at"]
    assert (later["version"], later["status"], later["quantity"]) == (2, "ACTIVE", "1")
    await release(staff, made)
    assert ended(await extend(staff, made)) == "RELEASED"
    assert (await extend(staff, {"id": uuid4()})).status_code == 404
    assert (await extend(staff, made, 0)).status_code == 422


async def test_every_change_is_in_the_audit_log(staff: UserClient, stock: asyncpg.Connection) -> None:
    await receive(staff, "5")
    made, other = await reserve(staff, "2", reference="A-1"), await reserve(staff, "1")
    await extend(staff, made)
    await release(staff, made)
    await expire(stock, other)
    await post(staff, "out", **BOLT, quantity="5")
    rows = await stock.fetch("select * from audit_log where entity = 'reservation' order by id")
    entries = [(row["action"], row["entity_id"], row["user_id"], row["actor"]) for row in rows]
    assert entries == [
        ("reservation.created", made["id"], staff.user_id, None),
        ("reservation.created", other["id"], staff.user_id, None),
        ("reservation.extended", made["id"], staff.user_id, None),
        ("reservation.released", made["id"], staff.user_id, None),
        ("reservation.expired", other["id"], None, "reservations"),
    ]
    assert msgspec.json.decode(rows[0]["after"])["reference"] == "A-1"
    assert msgspec.json.decode(rows[3]["after"])["status"] == "RELEASED"
    assert msgspec.json.decode(rows[4]["before"])["sku"] == "BOLT"


async def test_the_list_shows_what_holds_stock_now_and_the_rest_by_status(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "9")
    await receive(staff, "9", sku="NUT", location="SHOP")
    bolts = [await reserve(staff, reference=f"B-{n}") for n in range(5)]
    nut = await reserve(staff, sku="NUT", location="SHOP")
    await release(staff, bolts[0])
    await expire(stock, bolts[1])
    await post(staff, "out", **BOLT, quantity="1", reservation_id=bolts[2]["id"])

    async def listed(**params: str | int) -> list[str]:
        answer = await staff.get(RESERVATIONS, params={"limit": 2, **params})
        ids = [one["id"] for one in answer.json()["items"]]
        while cursor := answer.json()["next_cursor"]:
            answer = await staff.get(RESERVATIONS, params={"limit": 2, **params, "cursor": cursor})
            ids += [one["id"] for one in answer.json()["items"]]
        return ids

    newest_first = [one["id"] for one in [nut, *reversed(bolts)]]
    assert await listed() == newest_first[:3]
    assert await listed(status="ANY") == newest_first
    statuses = {status: await listed(status=status) for status in ("RELEASED", "EXPIRED", "USED")}
    assert statuses == {"RELEASED": [bolts[0]["id"]], "EXPIRED": [bolts[1]["id"]], "USED": [bolts[2]["id"]]}
    for name, value in (("sku", "NUT"), ("item_id", nut["item_id"]), ("location", "SHOP")):
        assert await listed(**{name: value}) == [nut["id"]], name
    assert await listed(location_id=nut["location_id"], sku="BOLT") == []
    assert await listed(reference="B-0", status="ANY") == [bolts[0]["id"]]
    assert await listed(reference="B-0") == []
    assert (await staff.get(RESERVATIONS, params={"status": "HELD"})).status_code == 422


async def test_reserved_never_goes_below_zero_nor_above_what_there_is(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    """medusajs/medusa 12401: the database itself refuses it."""
    await receive(staff, "2")
    for fault in ("reserved = -1", "reserved = 2.000001", "reserved = 'NaN'"):
        with pytest.raises(asyncpg.CheckViolationError):
            await stock.execute(f"update stock_balances set {fault}")
    made = await reserve(staff)
    for fault in (
        "quantity = 2",
        "quantity = 0",
        "quantity = 'NaN'",
        "status = 'USED'",
        "status = 'LOST'",
        "status = 'RELEASED'",
        "expires_at = 'infinity'",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await stock.execute(f"update stock_reservations set {fault} where id = $1", made["id"])


async def test_a_deleted_item_or_location_is_not_reserved(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    await stock.execute("update items set deleted_at = now() where sku = 'NUT'")
    await stock.execute("update locations set deleted_at = now() where code = 'SHOP'")
    body = {"sku": "NUT", "location": "SHOP", "quantity": "1", "expires_in_seconds": HOUR}
    answer = await staff.post(RESERVATIONS, json=body)
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/sku", "/location"]


async def test_a_return_is_available_and_held_for_nobody_unless_it_is_reserved_again(
    staff: httpx.AsyncClient, admin: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    """vendurehq/vendure 1198."""
    await receive(staff, "2")
    made = await reserve(staff, "2")
    sold = await post(staff, "out", **BOLT, quantity="2", reservation_id=made["id"])
    await post(admin, f"transactions/{sold['transaction_id']}/reverse", reason="came back")
    assert await reserved(stock) == "2 0"
    assert (await read(staff, made))["status"] == "USED"
    await reserve(staff, "2")


async def test_movements_name_no_reservation_but_an_out(admin: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    made = {"reservation_id": str(uuid4())}
    assert await pointers(admin, "in", BOLT | {"quantity": "1"} | made) == ["/reservation_id"]
    assert await pointers(admin, "adjustment", BOLT | {"quantity": "-1", "reason": "x"} | made) == ["/reservation_id"]
