"""Counts of a location, as a client makes them: opened, counted again, posted or canceled."""

from decimal import Decimal
from typing import Any

from tests.soak.bank.books import StockCount
from tests.soak.bank.catalogue import BY_SKU, ITEMS, LOCATIONS
from tests.soak.bank.clients import INVENTORY, POSTING, STOCK, StockClient

COUNTS = f"{INVENTORY}/counts"


async def count(client: StockClient) -> None:
    """What is counted is near to what is on hand, which changes meanwhile, since others post."""
    random, key = client.random, client.key()
    location = random.choice(LOCATIONS)
    body = {"location": location, "reference_no": key, "lines": await _lines(client, location)}
    if (opened := await client.effect("counts opened", COUNTS, key, body, ())) is None:
        return
    stock_count = client.books.stock_counts[opened["id"]] = StockCount(opened["id"], location)
    if random.random() < 0.5:
        lines = {"lines": await _lines(client, location)}
        path = f"{COUNTS}/{stock_count.id}/lines"
        await client.effect("counts counted again", path, client.key(), lines, (), method="PUT")
    if random.random() < 0.2 or not (await _post(client, stock_count, False) or await _post(client, stock_count, True)):
        canceled = await client.effect("counts canceled", f"{COUNTS}/{stock_count.id}/cancel", client.key(), None, ())
        if canceled is not None:
            stock_count.status = canceled["status"]


async def _lines(client: StockClient, location: str) -> list[dict[str, str]]:
    page = await client.read(f"{STOCK}/current", location=location, limit=100) or {"items": []}
    on_hand = {row["sku"]: Decimal(row["on_hand"]) for row in page["items"]}
    lines = []
    for item in client.random.sample(ITEMS, client.random.randrange(1, 4)):
        differs = client.random.choice([0, 0, 1, -1, 7]) * BY_SKU[item.sku].step
        lines.append({"sku": item.sku, "counted": f"{max(on_hand.get(item.sku, Decimal(0)) + differs, Decimal(0)):f}"})
    return lines


async def _post(client: StockClient, stock_count: StockCount, accept_moved: bool) -> bool:
    key = client.key()
    body: dict[str, Any] = {"reason": key, "accept_moved": accept_moved}
    if client.random.random() < 0.05:
        body["uncounted"] = "zero"
    posted = await client.effect(
        "counts posted", f"{COUNTS}/{stock_count.id}/post", key, body, (POSTING - {"period-closed"}) | {"stock-moved"}
    )
    if posted is None:
        return False
    stock_count.status, stock_count.transaction_id, stock_count.differing = (
        posted["status"],
        posted["transaction_id"],
        posted["differing"],
    )
    if stock_count.transaction_id is not None:
        # the answer only names what was posted
        document = await client.read(f"{STOCK}/transactions/{stock_count.transaction_id}")
        if document is not None:
            client.books.add_document(key, document, body)
    return True
