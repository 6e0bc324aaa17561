"""Everything that a client does, by how often."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic

from tests.soak.bank import catalogue, reserving
from tests.soak.bank.catalogue import BY_SKU, LOCATIONS
from tests.soak.bank.clients import INVENTORY, StockClient
from tests.soak.bank.counting import count
from tests.soak.clients import Client


async def traffic(client: StockClient, until: float) -> None:
    """One user's requests until the time is over."""
    actions: dict[Callable[[], Awaitable[None]], int] = {
        client.receive: 24,
        client.issue: 20,
        client.transfer: 12,
        client.adjust: 6,
        client.revalue: 5,
        client.assemble: 6,
        client.document: 8,
        client.reverse: 14,
        partial(reserving.reserve, client): 14,
        partial(reserving.use_reservation, client): 10,
        partial(reserving.extend, client): 4,
        partial(reserving.release, client): 4,
        partial(count, client): 4,
    }
    with contextlib.suppress(asyncio.CancelledError):
        while monotonic() < until:
            (action,) = client.random.choices(list(actions), list(actions.values()))
            await action()
            await asyncio.sleep(client.random.uniform(0.0, 0.15))


async def make_catalogue(client: Client) -> list[str]:
    """Makes items and locations; the answers that are no success."""
    calls = [("items", item.body) for item in BY_SKU.values()]
    calls += [("locations", catalogue.location_body(code)) for code in LOCATIONS]
    answers = [await client.call("POST", f"{INVENTORY}/{path}", json=body) for path, body in calls]
    return ["no answer" if a is None else a.text for a in answers if a is None or not a.is_success]
