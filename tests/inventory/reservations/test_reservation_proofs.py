"""`erp verify` finds each way in which reservations and balances can differ."""

import asyncpg
import pytest

from erp_service.inventory.reservations.proofs import PROOFS
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from tests.inventory.reservations.reserving import expire, receive, release, reserve
from tests.support.clients import UserClient

SUM, ON_HAND = "not the sum of the reservations", "more than is on hand"
MAIN = "location_id = (select id from locations where code = 'MAIN')"
YARD = "location_id = (select id from locations where code = 'YARD-')"

FAULTS = {
    "reserved for nobody": (f"update stock_balances set reserved = reserved + 0.000001 where {MAIN}", SUM),
    "held and not reserved": (f"update stock_balances set reserved = reserved - 1 where {MAIN}", SUM),
    "a reservation that grew": (
        f"update stock_reservations set quantity = 2.5 where status = 'ACTIVE' and {MAIN}",
        SUM,
    ),
    "a reservation that came back": (
        "update stock_reservations set status = 'ACTIVE', ended_at = null where status = 'RELEASED'",
        SUM,
    ),
    "a reservation that is gone": (f"delete from stock_reservations where status = 'ACTIVE' and {YARD}", SUM),
    "a reservation of no balance": (
        "update stock_reservations set location_id = -1, status = 'ACTIVE', ended_at = null where status = 'RELEASED'",
        SUM,
    ),
    "more than there is": (f"update stock_balances set on_hand = 2 where {MAIN}", ON_HAND),
    "both": (f"update stock_balances set on_hand = 2, reserved = 2.5 where {MAIN}", f"{SUM}, {ON_HAND}"),
}


@pytest.fixture
async def books(staff: UserClient, stock: asyncpg.Connection) -> asyncpg.Connection:
    """3 of 5 are reserved at MAIN, and 2 of 1 at YARD-, where that may be; and a connection that nothing refuses."""
    await receive(staff, "5")
    await receive(staff, "2", location="YARD-")
    await release(staff, await reserve(staff))
    await reserve(staff, "3")
    await reserve(staff, "2", location="YARD-")
    assert (
        await staff.post("/api/v1/inventory/stock/out", json={"sku": "BOLT", "location": "YARD-", "quantity": "1"})
    ).status_code == 201
    return stock


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_found_and_named(books: asyncpg.Connection, fault: str) -> None:
    statement, name = FAULTS[fault]
    (proof,) = PROOFS
    assert await books.fetch(proof.rows) == []
    planting = books.transaction()
    await planting.start()
    await books.execute("set local session_replication_role = replica")
    await books.execute("alter table stock_balances drop constraint stock_balances_reserved")
    await books.execute(statement)
    assert {row["fault"] for row in await books.fetch(proof.rows)} == {name}
    await planting.rollback()


async def test_verify_asks_for_it(books: asyncpg.Connection, settings: Settings, staff: UserClient) -> None:
    await expire(books, await reserve(staff))
    assert "reservations" not in [finding.proof for finding in await verify(settings)], "what nobody swept is no fault"
    await books.execute(f"update stock_balances set reserved = reserved + 1 where {MAIN}")
    (finding,) = [finding for finding in await verify(settings) if finding.proof == "reservations"]
    assert finding.rows[0]["fault"] == SUM
    await books.execute(f"update stock_balances set reserved = reserved - 1 where {MAIN}")
