"""Counts of a location, as a shopkeeper makes them: opened, counted again, posted or canceled."""

from decimal import Decimal
from typing import Any

from tests.soak.bank.books import Tally
from tests.soak.bank.clients import INVENTORY, POSTING, STOCK, Shopkeeper
from tests.soak.bank.wares import BY_SKU, PLACES, WARES

COUNTS = f"{INVENTORY}/counts"


async def count(client: Shopkeeper) -> None:
    """What the shelves hold is near to what the books say; it moves meanwhile, since others post."""
    random, key = client.random, client.key()
    location = random.choice(PLACES)
    body = {"location": location, "reference_no": key, "lines": await _lines(client, location)}
    if (opened := await client.effect("counts opened", COUNTS, key, body, ())) is None:
        return
    tally = client.books.tallies[opened["id"]] = Tally(opened["id"], location)
    if random.random() < 0.5:
        lines = {"lines": await _lines(client, location)}
        path = f"{COUNTS}/{tally.id}/lines"
        await client.effect("counts counted again", path, client.key(), lines, (), method="PUT")
    if random.random() < 0.2 or not (await _post(client, tally, False) or await _post(client, tally, True)):
        canceled = await client.effect("counts canceled", f"{COUNTS}/{tally.id}/cancel", client.key(), None, ())
        if canceled is not None:
            tally.status = canceled["status"]


async def _lines(client: Shopkeeper, location: str) -> list[dict[str, str]]:
    page = await client.read(f"{STOCK}/current", location=location, limit=100) or {"items": []}
    on_hand = {row["sku"]: Decimal(row["on_hand"]) for row in page["items"]}
    lines = []
    for ware in client.random.sample(WARES, client.random.randrange(1, 4)):
        differs = client.random.choice([0, 0, 1, -1, 7]) * BY_SKU[ware.sku].step
        lines.append({"sku": ware.sku, "counted": f"{max(on_hand.get(ware.sku, Decimal(0)) + differs, Decimal(0)):f}"})
    return lines


async def _post(client: Shopkeeper, tally: Tally, accept_moved: bool) -> bool:
    key = client.key()
    body: dict[str, Any] = {"reason": key, "accept_moved": accept_moved}
    if client.random.random() < 0.05:
        body["uncounted"] = "zero"
    posted = await client.effect(
        "counts posted", f"{COUNTS}/{tally.id}/post", key, body, (POSTING - {"period-closed"}) | {"stock-moved"}
    )
    if posted is None:
        return False
    tally.status, tally.transaction_id, tally.differing = (
        posted["status"],
        posted["transaction_id"],
        posted["differing"],
    )
    if tally.transaction_id is not None:
        # the answer only names what was posted
        document = await client.read(f"{STOCK}/transactions/{tally.transaction_id}")
        if document is not None:
            client.books.add_document(key, document, body)
    return True
