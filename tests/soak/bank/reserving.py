"""Reservations: made, extended, released, used up by OUTs; and most expire soon."""

from tests.soak.bank import catalogue
from tests.soak.bank.catalogue import BY_SKU, ITEMS
from tests.soak.bank.clients import INVENTORY, POSTING, StockClient

RESERVATIONS = f"{INVENTORY}/reservations"
ISSUE = POSTING | {"reservation-ended"}


async def reserve(client: StockClient) -> None:
    """One, or several at once."""
    random, key = client.random, client.key()
    bodies = []
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        item = random.choice(ITEMS)
        bodies.append(
            {
                "sku": item.sku,
                "expires_in_seconds": random.choice([1, 2, 5, 20, 600]),
                "reference": key,
                **client.random_location(),
                **catalogue.amount(random, item, 12),
            }
        )
    one = len(bodies) == 1
    path, body = ("", bodies[0]) if one else ("/bulk", {"reservations": bodies})
    answer = await client.effect("reservations", f"{RESERVATIONS}{path}", key, body, {"insufficient-stock"})
    if answer is not None:
        client.reservations += client.books.add_reservations([answer] if one else answer["reservations"])


async def use_reservation(client: StockClient) -> None:
    """An OUT of what anybody has reserved: of less than that, or of all, or of more."""
    late = list(client.books.reservations.values())[-40:]
    if not (active := [reservation for reservation in late if reservation.left]):
        return
    reservation, key = client.random.choice(active), client.key()
    item = BY_SKU[reservation.sku]
    quantity = reservation.left
    if (more := client.random.random()) < 0.4:
        quantity = catalogue.part(client.random, item, quantity)
    elif more > 0.8:
        quantity += item.step
    issue = {
        "sku": reservation.sku,
        "location": reservation.location,
        "notes": key,
        "reservation_id": reservation.id,
        "quantity": f"{quantity:f}",
    }
    if client.random.random() < 0.7:
        await client.post("issues of reservations", "out", key, issue, ISSUE)
    else:
        lines = [{"transaction_type": "IN", **client.movement("IN", key)}, {"transaction_type": "OUT", **issue}]
        await client.post("documents", "movements", key, {"movements": lines}, ISSUE)


async def extend(client: StockClient) -> None:
    if not (own := client.reservations):
        return
    reservation, key = client.random.choice(own), client.key()
    body = {"expires_in_seconds": client.random.choice([1, 10, 600])}
    path = f"{RESERVATIONS}/{reservation.id}/extend"
    if (answer := await client.effect("extensions", path, key, body, {"reservation-ended"})) is not None:
        reservation.expires_at = answer["expires_at"]


async def release(client: StockClient) -> None:
    if not (own := client.reservations):
        return
    reservation = client.random.choice(own)
    answer = await client.call("DELETE", f"{RESERVATIONS}/{reservation.id}")
    if answer is None:
        return
    if answer.is_success:
        client.books.counts["releases"] += 1
        reservation.is_released = True
    else:
        client.refused("releases", answer, {"reservation-ended"})
