"""A company at work: what is backed up while it trades."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx

from erp_service.settings import Settings


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
