"""Reservations made and looked at, and the proof that they are what the balances say."""

from typing import Any

import asyncpg
import httpx

from erp_service.inventory.reservations.proofs import PROOFS
from tests.inventory.books import BOLT, assert_books, post

RESERVATIONS = "/api/v1/inventory/reservations"
HOUR = 3600


async def reserve(client: httpx.AsyncClient, quantity: str = "1", **fields: Any) -> dict[str, Any]:
    """BOLT at MAIN for an hour, unless `fields` say otherwise: the answer."""
    body = BOLT | {"quantity": quantity, "expires_in_seconds": HOUR} | fields
    answer = await client.post(RESERVATIONS, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def receive(client: httpx.AsyncClient, quantity: str, **fields: Any) -> None:
    await post(client, "in", **(BOLT | {"quantity": quantity, "unit_cost": "2"} | fields))


async def read(client: httpx.AsyncClient, made: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"{RESERVATIONS}/{made['id']}")
    assert answer.status_code == 200, answer.text
    seen: dict[str, Any] = answer.json()
    return seen


async def release(client: httpx.AsyncClient, made: dict[str, Any]) -> int:
    return (await client.delete(f"{RESERVATIONS}/{made['id']}")).status_code


async def extend(client: httpx.AsyncClient, made: dict[str, Any], seconds: int = HOUR) -> httpx.Response:
    return await client.post(f"{RESERVATIONS}/{made['id']}/extend", json={"expires_in_seconds": seconds})


async def expire(owner: asyncpg.Connection, made: dict[str, Any]) -> None:
    """As if its time had passed; nobody has noticed yet."""
    await owner.execute(
        "update stock_reservations set expires_at = now() - interval '1 second' where id = $1", made["id"]
    )


async def reserved(owner: asyncpg.Connection, sku: str = "BOLT", code: str = "MAIN") -> str:
    """On hand and reserved, such as `7 2`."""
    both = await owner.fetchval(
        "select trim_scale(b.on_hand) || ' ' || trim_scale(b.reserved) from stock_balances b"
        " join items i on i.id = b.item_id join locations l on l.id = b.location_id where i.sku = $1 and l.code = $2",
        sku,
        code,
    )
    return str(both or "")


async def assert_reserved(owner: asyncpg.Connection) -> None:
    """Every proof about stock and reservations holds."""
    await assert_books(owner)
    for proof in PROOFS:
        assert await owner.fetch(proof.rows) == [], proof.holds


def short(answer: httpx.Response) -> str:
    """The `available` of a refusal for want of stock."""
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "/problems/insufficient-stock"), answer.text
    available: str = problem["available"]
    return available


def ended(answer: httpx.Response) -> str:
    """How the reservation ended that somebody wanted to change or use."""
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "/problems/reservation-ended"), answer.text
    status: str = problem["reservation_status"]
    return status
