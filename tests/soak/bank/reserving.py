"""Reservations: made, extended, released, used up by OUTs; and most expire soon."""

from tests.soak.bank import wares
from tests.soak.bank.clients import INVENTORY, POSTING, Shopkeeper
from tests.soak.bank.wares import BY_SKU, WARES

RESERVATIONS = f"{INVENTORY}/reservations"
ISSUE = POSTING | {"reservation-ended"}


async def reserve(client: Shopkeeper) -> None:
    """One, or several at once."""
    random, key = client.random, client.key()
    bodies = []
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        ware = random.choice(WARES)
        bodies.append(
            {
                "sku": ware.sku,
                "expires_in_seconds": random.choice([1, 2, 5, 20, 600]),
                "reference": key,
                **client.somewhere(),
                **wares.amount(random, ware, 12),
            }
        )
    one = len(bodies) == 1
    path, body = ("", bodies[0]) if one else ("/bulk", {"reservations": bodies})
    answer = await client.effect("reservations", f"{RESERVATIONS}{path}", key, body, {"insufficient-stock"})
    if answer is not None:
        client.holds += client.books.add_holds([answer] if one else answer["reservations"])


async def use_reservation(client: Shopkeeper) -> None:
    """An OUT of what anybody has reserved: of less than that, or of all, or of more."""
    if not (holds := [hold for hold in list(client.books.holds.values())[-40:] if hold.left]):
        return
    hold, key = client.random.choice(holds), client.key()
    ware = BY_SKU[hold.sku]
    quantity = hold.left
    if (more := client.random.random()) < 0.4:
        quantity = wares.part(client.random, ware, quantity)
    elif more > 0.8:
        quantity += ware.step
    issue = {
        "sku": hold.sku,
        "location": hold.location,
        "notes": key,
        "reservation_id": hold.id,
        "quantity": f"{quantity:f}",
    }
    if client.random.random() < 0.7:
        await client.post("issues of reservations", "out", key, issue, ISSUE)
    else:
        lines = [{"transaction_type": "IN", **client.movement("IN", key)}, {"transaction_type": "OUT", **issue}]
        await client.post("documents", "movements", key, {"movements": lines}, ISSUE)


async def extend(client: Shopkeeper) -> None:
    if not (own := client.holds):
        return
    hold, key = client.random.choice(own), client.key()
    body = {"expires_in_seconds": client.random.choice([1, 10, 600])}
    path = f"{RESERVATIONS}/{hold.id}/extend"
    if (answer := await client.effect("extensions", path, key, body, {"reservation-ended"})) is not None:
        hold.expires_at = answer["expires_at"]


async def release(client: Shopkeeper) -> None:
    if not (own := client.holds):
        return
    hold = client.random.choice(own)
    answer = await client.call("DELETE", f"{RESERVATIONS}/{hold.id}")
    if answer is None:
        return
    if answer.is_success:
        client.books.counts["releases"] += 1
        hold.is_released = True
    else:
        client.refused("releases", answer, {"reservation-ended"})
