"""The program that ops/integrating.md shows, which keeps a copy of the stock by following the events."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.events.webhooks.endpoints import happen
from tests.inventory.catalogue import ITEMS, make, make_place
from tests.support.clients import UserClient
from tests.support.trail import seal_all

PAGE = (Path(__file__).parents[2] / "ops/integrating.md").read_text()
STOCK = "/api/v1/inventory/stock"


class Store:
    """What is available by item, and up to where in the order of events."""

    available: dict[int, Decimal]
    place: tuple[int, str]

    def replace(self, available: dict[int, Decimal], place: tuple[int, str]) -> None:
        self.available, self.place = available, place

    def update(self, levels: dict[int, Decimal], place: tuple[int, str]) -> None:
        self.replace(self.available | levels, place)


def program() -> Any:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def follow" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    return names


async def post(client: httpx.AsyncClient, path: str, **body: object) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code in (200, 201), answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_the_copy_is_the_stock_after_whatever_happens_to_it(
    admin: UserClient, staff: UserClient, settings: Settings, database: Database
) -> None:
    bolt, nut = [(await make(admin, sku=sku))["id"] for sku in ("A", "B")]
    await make_place(admin)
    await make_place(admin, "SHOP")
    follow, begin, store = program()["follow"], program()["begin"], Store()

    async def moved(kind: str, **body: object) -> dict[str, Any]:
        return await post(admin, f"{STOCK}/{kind}", **{"sku": "A", "location": "MAIN", "quantity": 1, **body})

    async def followed() -> dict[int, Decimal]:
        await seal_all(settings)
        assert await follow(staff, store)
        return store.available

    await moved("in", quantity=10, unit_cost="2")
    await moved("in", sku="B", quantity=4, unit_cost="2", location="SHOP")
    await seal_all(settings)
    await begin(staff, store)
    assert store.available == {bolt: 10, nut: 4}
    sale = await moved("out", quantity="2")
    await post(admin, f"{STOCK}/transfer", sku="A", from_location="MAIN", to_location="SHOP", quantity=3)
    assert await followed() == {bolt: 8, nut: 4}
    await post(admin, f"{STOCK}/transactions/{sale['transaction_id']}/reverse", reason="came back")
    held = await post(
        staff, "/api/v1/inventory/reservations", sku="A", location="MAIN", quantity=4, expires_in_seconds=900
    )
    assert await followed() == {bolt: 6, nut: 4}
    await staff.delete(f"/api/v1/inventory/reservations/{held['id']}")
    await moved("out", sku="B", quantity=4, location="SHOP")
    assert (await admin.delete(f"{ITEMS}/{nut}")).status_code == 204
    assert await followed() == {bolt: 10, nut: 0}
    await happen(settings, database, "import.movements")
    assert not await follow(staff, store)
    await begin(staff, store)
    await moved("out")
    assert (await followed())[bolt] == 9
    # a restore has given the position to something else
    store.place = (store.place[0], "0" * 64)
    assert not await follow(staff, store)
