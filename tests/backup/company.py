"""A company at work: what is backed up while it trades."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone import postgres
from tests.acceptance.instances import instance
from tests.support.databases import connected
from tests.support.users import make_user, token_of


class Company(NamedTuple):
    """One instance of the API with a user of it."""

    settings: Settings
    url: str
    token: str
    user_id: int

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=f"{self.url}/api/v1", headers=headers, timeout=20) as client:
            yield client


@contextlib.asynccontextmanager
async def founded(settings: Settings, database: Database, log: Path) -> AsyncIterator[Company]:
    """One instance of the API in a process of its own, with items and a location to trade with."""
    user_id = await make_user(database, Role.SUPER_ADMIN)
    async with opened(settings, user_id, log) as company:
        async with company.client() as client:
            for number in range(5):
                item = {"sku": f"ITEM-{number}", "name": f"Item {number}", "unit": "PCS"}
                assert (await client.post("/inventory/items", json=item)).status_code == 201
            location = {"code": "SHOP", "name": "The shop", "location_type": "WAREHOUSE"}
            assert (await client.post("/inventory/locations", json=location)).status_code == 201
        yield company


@contextlib.asynccontextmanager
async def opened(settings: Settings, user_id: int, log: Path) -> AsyncIterator[Company]:
    """An instance over a database that has the company already."""
    async with instance(settings, log) as process:
        yield Company(settings, process.url, token_of(settings, user_id), user_id)


async def references(data_dir: Path, database: str) -> list[str]:
    """Those of all postings of a cluster that was restored, in order."""
    with postgres.running(data_dir) as cluster:
        async with connected(cluster.owner_url(database)) as db:
            return [row[0] for row in await db.fetch("select reference_no from stock_ledger order by id")]


async def receive(client: httpx.AsyncClient, *, item: int = 0, quantity: object = 1, reference: str = "") -> None:
    movement = {"sku": f"ITEM-{item}", "location": "SHOP", "quantity": quantity, "unit_cost": "3.15"}
    response = await client.post("/inventory/stock/in", json={**movement, "reference_no": reference or "R"})
    assert response.status_code == 201, response.text


@contextlib.asynccontextmanager
async def trade(company: Company) -> AsyncIterator[list[int]]:
    """Four people who receive and sell without a pause; the list holds the number of acknowledged postings."""
    counted = [0]
    stop = asyncio.Event()

    async def person(number: int) -> None:
        async with company.client() as client:
            while not stop.is_set():
                await receive(client, item=number, quantity=3)
                sold = {"sku": f"ITEM-{number}", "location": "SHOP", "quantity": "1.5", "reference_no": "S"}
                assert (await client.post("/inventory/stock/out", json=sold)).status_code == 201
                counted[0] += 2

    people = [asyncio.create_task(person(number)) for number in range(4)]
    try:
        yield counted
    finally:
        stop.set()
        await asyncio.gather(*people)
