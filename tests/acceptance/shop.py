"""A web shop that has nothing but an API key and the OpenAPI document: `python -m tests.acceptance.shop --help`.

It synchronises 5,000 products, follows the stock by events and by webhooks at once, and takes returns and orders, which
reserve and are paid, cancelled or left to expire. In the end its books must agree with the service to the piece."""

import argparse
import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from random import Random
from time import monotonic
from typing import Any

from tests.acceptance.shop_api import Api, Unanswered
from tests.acceptance.shop_feed import EventFollower, WebhookReceiver
from tests.soak.tables import out, table

PRODUCTS = 5_000
STOCKED = 300
"""Products that are sold; few, so that orders meet."""
LOCATION = "WEB"
EXPIRES_SECONDS = 4
BUYERS = 6
BATCH = 1_000


class Shop:
    """`on_hand` is what the shop knows from the answers that it got: the truth that the end is held against."""

    def __init__(self, urls: Sequence[str], key: str, random: Random, *, name: str) -> None:
        self.api = Api(urls, key, random)
        self.random, self.name = random, name
        self.names = [f"Product no. {n}" for n in range(PRODUCTS)]
        self.item_ids: dict[str, int] = {}
        self.on_hand: Counter[str] = Counter()
        self.paid: list[tuple[str, int]] = []
        self.orders_paid = 0
        self.follower = EventFollower(self.api)
        self.receiver = WebhookReceiver()
        self.faults: list[str] = []
        self._renaming = asyncio.Lock()

    def sku(self, number: int) -> str:
        return f"{self.name}-{number:04}"

    async def synchronise(self) -> Counter[str]:
        """Send every product; the answers say which were made, changed or left alone."""
        results: Counter[str] = Counter()
        for first in range(0, PRODUCTS, BATCH):
            products = [
                {"external_id": f"{self.name}/{n}", "sku": self.sku(n), "name": self.names[n], "unit": "pcs"}
                for n in range(first, min(first + BATCH, PRODUCTS))
            ]
            answer = await self.api.call(
                "writeItems", {"items": products, "mode": "upsert", "by": "external_id", "atomic": True}
            )
            if not answer.is_success:
                continue
            for result in answer.json()["results"]:
                results[result["status"]] += 1
                self.item_ids[result["item"]["sku"]] = result["item"]["id"]
        return results

    async def open(self) -> None:
        """Everything that comes before the first order."""
        await self.api.learn()
        await self.api.call("createLocation", {"code": LOCATION, "name": "Web shop", "location_type": "WAREHOUSE"})
        await self.follower.start_here()
        await self.receiver.register(self.api)
        made = await self.synchronise()
        again = await self.synchronise()
        if made != Counter(created=PRODUCTS) or again != Counter(unchanged=PRODUCTS):
            self.faults.append(f"products were synchronised as {dict(made)}, and again as {dict(again)}")
        for first in range(0, STOCKED, 100):
            await self.receive([(self.sku(n), 20) for n in range(first, first + 100)])

    async def receive(self, lines: Sequence[tuple[str, int]], *, unit_cost: str | None = "2.5") -> None:
        """A delivery; a return if it has no cost."""
        cost = {} if unit_cost is None else {"unit_cost": unit_cost}
        movements = [
            {"transaction_type": "IN", "sku": sku, "location": LOCATION, "quantity": str(quantity), **cost}
            for sku, quantity in lines
        ]

        def done() -> None:
            for sku, quantity in lines:
                self.on_hand[sku] += quantity

        await self.api.call("postMovements", {"movements": movements}, done=done)

    async def buy(self) -> None:
        """An order: reserved, then paid, cancelled, or left to expire."""
        wanted = Counter(self.sku(self.random.randrange(STOCKED)) for _ in range(self.random.randint(1, 3)))
        lines = {sku: quantity * self.random.randint(1, 3) for sku, quantity in wanted.items()}
        answer = await self.api.call(
            "createReservations",
            {
                "reservations": [
                    {
                        "sku": sku,
                        "location": LOCATION,
                        "quantity": str(quantity),
                        "expires_in_seconds": EXPIRES_SECONDS,
                        "reference": f"ORDER-{self.random.randrange(10**9)}",
                    }
                    for sku, quantity in lines.items()
                ]
            },
            fine=[409],
        )
        if not answer.is_success:
            return
        reservations = answer.json()["reservations"]
        (way,) = self.random.choices(["pay", "cancel", "leave"], [75, 10, 15])
        if way == "cancel":
            for one in reservations:
                await self.api.call("releaseReservation", reservation_id=one["id"])
        elif way == "pay":
            await asyncio.sleep(self.random.uniform(0, 0.3))
            await self._pay(lines, reservations)

    async def _pay(self, lines: dict[str, int], reservations: Sequence[dict[str, Any]]) -> None:
        """All lines of the order go out, or none: the reservations may have expired while instances were away."""
        movements = [
            {
                "transaction_type": "OUT",
                "sku": one["sku"],
                "location": LOCATION,
                "quantity": one["quantity"],
                "reservation_id": one["id"],
            }
            for one in reservations
        ]

        def done() -> None:
            self.orders_paid += 1
            for sku, quantity in lines.items():
                self.on_hand[sku] -= quantity
                self.paid.append((sku, quantity))

        await self.api.call("postMovements", {"movements": movements}, fine=[409], done=done)

    async def take_back(self) -> None:
        """A customer brings back a part of what was paid."""
        if self.paid:
            sku, quantity = self.paid.pop(self.random.randrange(len(self.paid)))
            await self.receive([(sku, self.random.randint(1, quantity))], unit_cost=None)

    async def restock(self) -> None:
        await self.receive([(self.sku(self.random.randrange(STOCKED)), 10) for _ in range(15)])

    async def rename(self) -> None:
        """A few products get another name, and all are sent again, as nightly jobs of shops do: one at a time."""
        async with self._renaming:
            await self._rename()

    async def _rename(self) -> None:
        changed = {self.random.randrange(PRODUCTS) for _ in range(20)}
        for number in changed:
            self.names[number] = f"Product no. {number}, edition {self.random.randrange(10**9)}"
        results = await self.synchronise()
        expected = Counter(updated=len(changed), unchanged=PRODUCTS - len(changed))
        if results != expected:
            self.faults.append(f"a synchronisation that changed {len(changed)} products answered {dict(results)}")

    async def trade(self, until: float) -> None:
        """One of several hands of the shop, until the time is over."""
        actions = {self.buy: 85, self.take_back: 8, self.restock: 6, self.rename: 1}
        while monotonic() < until:
            (action,) = self.random.choices(list(actions), list(actions.values()))
            await action()
            await asyncio.sleep(self.random.uniform(0, 0.2))

    async def run(self, minutes: float) -> list[str]:
        """Trade for so many minutes, and compare. The faults that were found."""
        async with self.receiver.listening():
            await self.open()
            following = asyncio.create_task(self.follower.follow())
            until = monotonic() + 60 * minutes
            try:
                async with asyncio.TaskGroup() as hands:
                    for _ in range(BUYERS):
                        hands.create_task(self.trade(until))
                # the last orders that nobody pays have expired then
                await asyncio.sleep(EXPIRES_SECONDS)
                await self.api.settle()
                await self._compare()
            finally:
                following.cancel()
                await asyncio.wait([following])
            if not following.cancelled() and following.exception() is not None:
                self.faults.append(f"the follower of events ended: {following.exception()!r}")
        return [*self.faults, *self.api.faults, *self.follower.faults, *self.receiver.faults]

    async def _compare(self) -> None:
        """The shop's books, what it heard by events and by webhooks, and what the service says."""
        stock = await self._stock_of_all()
        different = {
            sku: (self.on_hand[sku], one["on_hand"], one["reserved"])
            for sku, one in stock.items()
            if (str(self.on_hand[sku]), "0") != (one["on_hand"], one["reserved"])
        }
        if different or len(stock) != PRODUCTS:
            self.faults.append(f"{len(stock)} products; shop, service and reserved differ: {different}")
        true = {one["item_id"]: one["on_hand"] for one in stock.values() if one["on_hand"] != "0"}
        self.faults += await self.follower.differences(true)
        self.faults += await self.receiver.differences(self.follower)

    async def _stock_of_all(self) -> dict[str, dict[str, Any]]:
        stock: dict[str, dict[str, Any]] = {}
        skus = [self.sku(n) for n in range(PRODUCTS)]
        for first in range(0, PRODUCTS, BATCH):
            answer = await self.api.call("lookupStock", {"skus": skus[first : first + BATCH]})
            stock |= {one["sku"]: one for one in answer.json()["items"]}
        return stock


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="+", help="the instances, such as http://127.0.0.1:8000")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not (key := os.environ.get("ERP_TOKEN")):
        parser.error("ERP_TOKEN is the API key: role ADMIN, scopes items, locations, stock and webhooks")
    shop = Shop(arguments.urls, key, Random(arguments.seed), name=f"SHOP{arguments.seed}")
    faults = ["interrupted"]
    with contextlib.suppress(KeyboardInterrupt):
        try:
            faults = asyncio.run(shop.run(arguments.minutes))
        except* Unanswered as group:
            faults = [str(one) for one in group.exceptions]
    table("what the service answered", dict(sorted(shop.api.counts.items())))
    out.print(*(faults or ["Shop and service agree."]), sep="\n", markup=False)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
