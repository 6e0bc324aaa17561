"""An expired reservation blocks nobody, whether or not a worker was there to end it (tigerbeetle 2118)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import select

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.imports import service
from erp_service.imports.files.faults import ImportRefused
from erp_service.inventory.models import StockBalance
from erp_service.inventory.reservations.expiry import sweep_all
from erp_service.inventory.reservations.queries import live_reserved
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices
from tests.inventory.books import BOLT, PATH, post
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
)
from tests.support.statements import sent_statements

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "out": (f"{PATH}/out", BOLT | {"quantity": "5"}),
    "transfer": (f"{PATH}/transfer", {"sku": "BOLT", "from_location": "MAIN", "to_location": "SHOP", "quantity": "5"}),
    "adjustment": (f"{PATH}/adjustment", BOLT | {"quantity": "-5", "reason": "lost"}),
    "assembly": (
        f"{PATH}/assembly",
        {
            "sku": "NUT",
            "location": "MAIN",
            "quantity": "1",
            "components": [{"sku": "BOLT", "location": "MAIN", "quantity": "5"}],
        },
    ),
    "another reservation": (RESERVATIONS, BOLT | {"quantity": "5", "expires_in_seconds": HOUR}),
}


@pytest.mark.parametrize("way", WAYS)
async def test_expired_reservation_blocks_nobody_before_it_is_swept(
    admin: httpx.AsyncClient, stock: asyncpg.Connection, way: str
) -> None:
    await receive(admin, "5")
    made = await reserve(admin, "5")
    path, body = WAYS[way]
    assert (await admin.post(path, json=body)).status_code == 409
    await expire(stock, made)
    answer = await admin.post(path, json=body)
    assert answer.status_code == 201, answer.text
    assert (await read(admin, made))["status"] == "EXPIRED"
    assert ended(await extend(admin, made)) == "EXPIRED"
    assert await release(admin, made) == 204


async def test_an_imported_file_takes_what_has_expired_and_nothing_that_is_held(
    staff: httpx.AsyncClient, stock: asyncpg.Connection, settings: Settings, tmp_path: Path
) -> None:
    await receive(staff, "5")
    made = await reserve(staff, "2")
    await reserve(staff, "1")
    file = tmp_path / "movements.csv"

    async def sell(quantity: int) -> None:
        now = datetime.now(UTC).isoformat()
        file.write_text(f"occurred_at,type,sku,location,quantity\n{now},OUT,BOLT,MAIN,{quantity}\n")
        await service.load(settings.database_url, "movements", file, who=system("test"))

    with pytest.raises(ImportRefused):
        await sell(4)
    await expire(stock, made)
    with pytest.raises(ImportRefused):
        await sell(5)
    assert await reserved(stock) == "5 3"
    await sell(4)
    assert await reserved(stock) == "1 1"


async def test_expired_reservation_does_not_keep_a_receipt_from_being_reversed(
    admin: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    received = await post(admin, "in", **BOLT, quantity="5", unit_cost="2")
    await expire(stock, await reserve(admin, "5"))
    await post(admin, f"transactions/{received['transaction_id']}/reverse", reason="mistake")
    assert await reserved(stock) == "0 0"


async def test_only_what_has_expired_is_ended_and_only_where_stock_is_needed(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "9")
    await receive(staff, "9", location="SHOP")
    gone, kept, elsewhere = await reserve(staff, "2"), await reserve(staff, "3"), await reserve(staff, location="SHOP")
    for made in (gone, elsewhere):
        await expire(stock, made)
    await post(staff, "in", **BOLT, quantity="1")
    assert (await reserved(stock), await reserved(stock, code="SHOP")) == ("10 3", "9 1")
    assert (await read(staff, kept)) == kept


async def test_it_reads_the_same_before_and_after_it_is_swept(
    staff: httpx.AsyncClient, stock: asyncpg.Connection, database: Database
) -> None:
    await receive(staff, "5")
    made = await reserve(staff, "2")
    await expire(stock, made)
    before = await staff.get(f"{RESERVATIONS}/{made['id']}")
    assert before.json()["status"] == "EXPIRED"
    assert before.json()["ended_at"] == before.json()["expires_at"]
    assert await sweep_all(database) == 1
    after = await staff.get(f"{RESERVATIONS}/{made['id']}")
    assert (after.json(), after.headers["ETag"]) == (before.json(), before.headers["ETag"])
    assert await release(staff, made) == 204
    assert (await read(staff, made)) == before.json()


async def test_expired_reservation_is_extended_while_nobody_needed_its_stock(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "5")
    made, other = await reserve(staff, "2"), await reserve(staff, "3")
    for one in (made, other):
        await expire(stock, one)
    seen = await read(staff, made)
    answer = await extend(staff, made)
    assert (answer.status_code, answer.json()["status"], answer.json()["ended_at"]) == (200, "ACTIVE", None)
    assert answer.json()["version"] > seen["version"], "the tag that was seen of it is not that of this"
    assert await reserved(stock) == "5 2", "the other one was ended meanwhile"


async def test_expired_reservation_is_not_extended_where_its_stock_is_gone(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    """Where stock may be negative, it can be taken while it is reserved."""
    await receive(staff, "2", location="YARD-")
    made = await reserve(staff, "2", location="YARD-")
    await post(staff, "out", sku="BOLT", location="YARD-", quantity="1")
    await expire(stock, made)
    assert ended(await extend(staff, made)) == "EXPIRED"
    assert (await read(staff, made))["status"] == "EXPIRED"


async def test_release_of_an_expired_one_ends_it_as_expired(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "2")
    made = await reserve(staff, "2")
    await expire(stock, made)
    assert await release(staff, made) == 204
    assert (await reserved(stock), (await read(staff, made))["status"]) == ("2 0", "EXPIRED")


async def test_a_worker_ends_what_nobody_asked_about(
    staff: httpx.AsyncClient, stock: asyncpg.Connection, worker_services: WorkerServices
) -> None:
    """With the rights of a worker, which posts no stock."""
    await receive(staff, "9")
    await receive(staff, "9", location="SHOP")
    made = [await reserve(staff, location=code) for code in ("MAIN", "SHOP", "MAIN", "MAIN")]
    for one in made[:3]:
        await expire(stock, one)
    await worker_services.housekeeping.run(worker_services)
    assert (await reserved(stock), await reserved(stock, code="SHOP")) == ("9 1", "9 0")
    rows = await stock.fetch("select entity_id, actor from audit_log where action = 'reservation.expired'")
    assert {(row["entity_id"], row["actor"]) for row in rows} == {(one["id"], "reservations") for one in made[:3]}


async def test_housekeeping_goes_on_until_none_is_left(
    staff: httpx.AsyncClient, stock: asyncpg.Connection, database: Database
) -> None:
    await receive(staff, "9")
    await receive(staff, "9", sku="NUT", location="SHOP")
    for place in ({}, {"sku": "NUT", "location": "SHOP"}):
        for _ in range(3):
            await expire(stock, await reserve(staff, **place))
    assert await sweep_all(database, batch=1) == 2
    assert await sweep_all(database) == 0
    assert (await reserved(stock), await reserved(stock, "NUT", "SHOP")) == ("9 0", "9 0")


async def test_reading_counts_only_what_still_holds(
    staff: httpx.AsyncClient, stock: asyncpg.Connection, database: Database
) -> None:
    await receive(staff, "9")
    await receive(staff, "9", location="SHOP")
    await reserve(staff, "1.5")
    await expire(stock, await reserve(staff, "2"))
    statement = select(StockBalance.reserved, live_reserved()).order_by(StockBalance.location_id)
    async with database.read() as db:
        assert [tuple(map(str, row)) for row in await db.execute(statement)] == [("3.5", "1.5"), ("0", "0")]


async def test_nothing_is_asked_of_reservations_where_nothing_is_reserved(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "9")
    with sent_statements() as sent:
        await post(staff, "out", **BOLT, quantity="1")
    assert not [statement.text for statement in sent if "stock_reservations" in statement.text]
