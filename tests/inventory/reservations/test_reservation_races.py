"""Many clients of two instances at the same moment: never more is reserved than there is, and none waits for ever."""

import asyncio
import random
from collections import Counter
from uuid import uuid4

import asyncpg
import httpx

from erp_service.db.engine import Database
from erp_service.inventory.reservations.expiry import sweep_all
from tests.inventory.books import BOLT, PATH
from tests.inventory.reservations.reserving import (
    HOUR,
    RESERVATIONS,
    expire,
    read,
    receive,
    reserve,
    reserved,
)

Clients = list[httpx.AsyncClient]
Lines = list[dict[str, str]]
Hold = tuple[dict[str, str], str]
ONE = BOLT | {"quantity": "1", "expires_in_seconds": HOUR}


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


async def test_twenty_reserve_ten(two: Clients, stock: asyncpg.Connection) -> None:
    """magento/inventory 3036, odoo 32857."""
    await receive(two[0], "10")
    answers = await asyncio.gather(*(two[n % 2].post(RESERVATIONS, json=ONE) for n in range(20)))
    assert statuses(answers) == {201: 10, 409: 10}
    assert await reserved(stock) == "10 10"


async def test_two_reserve_the_last_one(two: Clients, stock: asyncpg.Connection) -> None:
    """medusajs/medusa 16569."""
    for n in range(1, 6):
        await receive(two[0], "1")
        assert statuses(await asyncio.gather(*(one.post(RESERVATIONS, json=ONE) for one in two))) == {201: 1, 409: 1}
        assert await reserved(stock) == f"{n} {n}"


async def test_same_item_twice_in_requests_at_the_same_moment(two: Clients, stock: asyncpg.Connection) -> None:
    await receive(two[0], "10")
    body = {"reservations": [ONE, ONE | {"quantity": "2"}]}
    answers = await asyncio.gather(*(two[n % 2].post(f"{RESERVATIONS}/bulk", json=body) for n in range(8)))
    assert statuses(answers) == {201: 3, 409: 5}
    assert await reserved(stock) == "10 9"


async def test_one_reservation_is_used_by_two_at_once(two: Clients, stock: asyncpg.Connection) -> None:
    for _ in range(4):
        await receive(two[0], "2")
        made = await reserve(two[0], "2")
        body = BOLT | {"quantity": "2", "reservation_id": made["id"]}
        answers = await asyncio.gather(*(one.post(f"{PATH}/out", json=body) for one in two))
        assert statuses(answers) == {201: 1, 409: 1}
        assert await reserved(stock) == "0 0"


async def test_release_use_and_extension_of_one_at_the_same_moment(two: Clients, stock: asyncpg.Connection) -> None:
    """saleor 5334, magento/inventory 1849: whichever comes first, nothing is released twice or held for nobody."""
    for _ in range(6):
        await receive(two[0], "2")
        made = await reserve(two[0], "2")
        path = f"{RESERVATIONS}/{made['id']}"
        body = BOLT | {"quantity": "2", "reservation_id": made["id"]}
        released, again, used, extended = await asyncio.gather(
            two[0].delete(path),
            two[1].delete(path),
            two[1].post(f"{PATH}/out", json=body),
            two[0].post(f"{path}/extend", json={"expires_in_seconds": 60}),
        )
        seen = await read(two[0], made)
        if seen["status"] == "USED":
            assert (used.status_code, {released.status_code, again.status_code}) == (201, {409})
        else:
            assert (seen["status"], used.status_code) == ("RELEASED", 409)
            assert {released.status_code, again.status_code} == {204}
            await two[0].post(f"{PATH}/out", json=BOLT | {"quantity": "2"})
        assert extended.status_code in (200, 409)
        assert await reserved(stock) == "0 0"


class Crowd:
    """Clients that post whatever a random source draws, each with one of two lines in either order."""

    def __init__(self, database: Database) -> None:
        self.keys = [(sku, code) for sku in ("BOLT", "NUT") for code in ("MAIN", "SHOP")]
        self.holds: list[tuple[dict[str, str], str]] = []
        """Lines that an OUT can have, and the ids of their reservations."""
        self._database = database

    async def work(self, client: httpx.AsyncClient, draw: random.Random) -> list[httpx.Response]:
        acts = [self.reserve, self.sell, self.move, self.receive, self.use, self.release, self.extend]
        answers = []
        for _ in range(12):
            lines = [{"sku": sku, "location": code, "quantity": "1"} for sku, code in draw.sample(self.keys, 2)]
            hold = draw.choice(self.holds) if self.holds else (lines[0], str(uuid4()))
            answers.append(await draw.choice(acts)(client, lines, hold))
            if draw.random() < 0.1:
                await sweep_all(self._database)
        return answers

    async def reserve(self, client: httpx.AsyncClient, lines: Lines, _: Hold) -> httpx.Response:
        lines = [*lines, lines[0]]
        body = {"reservations": [line | {"expires_in_seconds": HOUR} for line in lines]}
        answer = await client.post(f"{RESERVATIONS}/bulk", json=body)
        if answer.status_code == 201:
            made = answer.json()["reservations"]
            self.holds.extend(zip(lines, [one["id"] for one in made], strict=True))
        return answer

    async def sell(self, client: httpx.AsyncClient, lines: Lines, _: Hold) -> httpx.Response:
        body = {"movements": [{"transaction_type": "OUT", **line} for line in lines]}
        return await client.post(f"{PATH}/movements", json=body)

    async def move(self, client: httpx.AsyncClient, lines: Lines, _: Hold) -> httpx.Response:
        one = lines[0]
        there = "MAIN" if one["location"] == "SHOP" else "SHOP"
        body = {"sku": one["sku"], "from_location": one["location"], "to_location": there, "quantity": "1"}
        return await client.post(f"{PATH}/transfer", json=body)

    async def receive(self, client: httpx.AsyncClient, lines: Lines, _: Hold) -> httpx.Response:
        return await client.post(f"{PATH}/in", json=lines[0])

    async def use(self, client: httpx.AsyncClient, _: Lines, hold: Hold) -> httpx.Response:
        return await client.post(f"{PATH}/out", json=hold[0] | {"reservation_id": hold[1]})

    async def release(self, client: httpx.AsyncClient, _: Lines, hold: Hold) -> httpx.Response:
        return await client.delete(f"{RESERVATIONS}/{hold[1]}")

    async def extend(self, client: httpx.AsyncClient, _: Lines, hold: Hold) -> httpx.Response:
        return await client.post(f"{RESERVATIONS}/{hold[1]}/extend", json={"expires_in_seconds": HOUR})


async def test_mixed_writers_take_their_locks_in_one_order(
    two: Clients, stock: asyncpg.Connection, database: Database
) -> None:
    """Documents in all orders, over both instances, while workers sweep: nobody deadlocks, and the books are right."""
    crowd, is_over = Crowd(database), asyncio.Event()
    for sku, code in crowd.keys:
        await receive(two[0], "6", sku=sku, location=code)

    async def clock() -> None:
        """Time passes for every third reservation."""
        while not is_over.is_set():
            for _, id_ in crowd.holds[::3]:
                await expire(stock, {"id": id_})
            await asyncio.sleep(0)

    time = asyncio.create_task(clock())
    every = await asyncio.gather(*(crowd.work(two[n % 2], random.Random(n)) for n in range(8)))
    is_over.set()
    await time
    seen = statuses([answer for answers in every for answer in answers])
    assert seen.keys() <= {200, 201, 204, 404, 409, 422}, seen
    assert seen[201], seen
