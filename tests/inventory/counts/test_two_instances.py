"""Counts and movements at once, over two instances of the API."""

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from erp_service.access.principals import system
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.decimals import Quantity
from erp_service.inventory.posting import service as stock
from erp_service.inventory.posting.schemas import Issue
from erp_service.settings import Settings
from tests.inventory.books import BOLT, PATH, balance, post
from tests.inventory.counts.counting import COUNTS, lines, lines_of, open_count
from tests.support.apps import two_instances
from tests.support.statements import Waiting
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually

Clients = list[httpx.AsyncClient]


@pytest.fixture
async def clients(
    settings: Settings, database: Database, shelves: asyncpg.Connection
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """One of each instance, signed in as an admin."""
    token = token_of(settings, await make_user(database, Role.ADMIN))
    async with two_instances(settings) as instances:
        for client in instances.clients:
            client.headers["Authorization"] = f"Bearer {token}"
        yield instances.clients


async def test_posting_twice_canceling_and_counting_at_once_end_a_count_once(
    clients: Clients, shelves: asyncpg.Connection
) -> None:
    """Whoever comes first ends it, all others are told so, and its lines are those that were posted."""
    await post(clients[0], "in", **BOLT, quantity="1000", unit_cost="1")
    for turn in range(6):
        count = await open_count(clients[0], BOLT=str(900 - turn))
        path = f"{COUNTS}/{count}"
        line = {"lines": lines_of({"NUT": turn + 1})}
        answers = await asyncio.gather(
            clients[0].post(f"{path}/post", json={"accept_moved": True}),
            clients[1].post(f"{path}/post", json={"accept_moved": True}),
            clients[turn % 2].post(f"{path}/cancel"),
            clients[1].put(f"{path}/lines", json=line),
        )
        ended = [answer.json()["status"] for answer in answers[:3] if answer.status_code == 200]
        assert len(ended) == 1, [answer.text for answer in answers]
        refused = [answer.json()["type"] for answer in answers if answer.status_code != 200]
        assert set(refused) == {"/problems/count-ended"}
        assert (answers[3].status_code == 200) == ("NUT" in await lines(clients[0], count))
        done = (await clients[0].get(path)).json()
        assert done["status"] == ended[0]


async def test_the_same_key_posts_once_on_whichever_instance(clients: Clients, shelves: asyncpg.Connection) -> None:
    await post(clients[0], "in", **BOLT, quantity="10")
    count = await open_count(clients[0], BOLT="8")
    key = {"Idempotency-Key": "once"}
    answers: list[httpx.Response] = []
    while not answers or answers[-1].status_code != 200 or "Idempotency-Replayed" not in answers[-1].headers:
        answers += await asyncio.gather(
            *(client.post(f"{COUNTS}/{count}/post", json={}, headers=key) for client in clients * 2)
        )
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert {answer.json()["type"] for answer in answers if answer.status_code == 409} <= {"/problems/still-running"}
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert await balance(shelves, "BOLT", "MAIN") == "8 0"


async def test_what_was_counted_is_right_whatever_moves_meanwhile(
    clients: Clients, shelves: asyncpg.Connection
) -> None:
    """Sales, counts of the same items, and postings at once. What is on hand afterwards is what was there and came in,
    less what went out, and the differences that were posted: no sale is undone, and no difference is booked twice."""
    await asyncio.gather(*(post(clients[0], "in", sku=sku, location="MAIN", quantity="500") for sku in ("BOLT", "NUT")))
    sold = dict.fromkeys(("BOLT", "NUT"), 0)

    async def sell(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(12):
            sku = choose.choice(("BOLT", "NUT"))
            body = {"sku": sku, "location": "MAIN", "quantity": 1}
            answer = await clients[seed % 2].post(f"{PATH}/out", json=body)
            assert answer.status_code == 201, answer.text
            sold[sku] += 1

    async def count(seed: int) -> None:
        """Finds one piece too few of one item, as of what the books say."""
        choose, client = random.Random(seed), clients[seed % 2]
        for _ in range(4):
            sku = choose.choice(("BOLT", "NUT"))
            opened = await open_count(client, **{sku: "0"})
            expected = int((await lines(client, opened))[sku]["expected"])
            body = {"lines": lines_of({sku: expected - 1})}
            assert (await client.put(f"{COUNTS}/{opened}/lines", json=body)).status_code == 200
            answer = await client.post(f"{COUNTS}/{opened}/post", json={"accept_moved": True})
            assert answer.status_code == 200 or answer.json()["type"] == "/problems/stock-moved", answer.text

    await asyncio.gather(*(sell(seed) for seed in range(4)), *(count(seed) for seed in range(4)))
    for sku in sold:
        differences = await shelves.fetchval(
            "select coalesce(sum(n.counted - n.expected), 0) from stock_count_lines n"
            " join stock_counts c on c.id = n.count_id join items i on i.id = n.item_id"
            " where c.status = 'POSTED' and i.sku = $1",
            sku,
        )
        assert await balance(shelves, sku, "MAIN") == f"{500 - sold[sku] + int(differences)} 0"


async def test_counts_and_documents_of_many_items_at_once_do_not_deadlock(
    clients: Clients, shelves: asyncpg.Connection
) -> None:
    both = [{"sku": sku, "location": "MAIN", "quantity": 50, "transaction_type": "IN"} for sku in ("BOLT", "NUT")]

    async def receive(client: httpx.AsyncClient, turn: int) -> None:
        movements = both if turn % 2 else both[::-1]
        answer = await client.post(f"{PATH}/movements", json={"movements": movements})
        assert answer.status_code == 201, answer.text

    async def count(client: httpx.AsyncClient, turn: int) -> None:
        counted = {"BOLT": 7, "NUT": 7} if turn % 2 else {"NUT": 7, "BOLT": 7}
        opened = await open_count(client, **counted)
        answer = await client.post(f"{COUNTS}/{opened}/post", json={"accept_moved": True, "uncounted": "zero"})
        known = ("/problems/stock-moved", "/problems/insufficient-stock")
        assert answer.status_code == 200 or answer.json()["type"] in known, answer.text

    await asyncio.gather(
        *(work(clients[turn % 2], turn) for turn in range(16) for work in (receive, count)),
    )


async def test_sale_in_flight_while_it_is_counted_has_moved(
    admin: httpx.AsyncClient, database: Database, shelves: asyncpg.Connection
) -> None:
    """Its entry has a lower id than later ones, and an earlier time than the count: neither would tell."""
    await post(admin, "in", **BOLT, quantity="10")
    async with database.write() as db:
        await stock.post_one(db, system("test"), Issue(sku="BOLT", location="MAIN", quantity=Quantity(3)))
        count = await open_count(admin, BOLT="10")
    line = (await lines(admin, count))["BOLT"]
    assert (line["expected"], line["moved"]) == ("10", True)


async def test_sale_in_flight_while_a_count_is_posted_is_named(
    admin: httpx.AsyncClient, database: Database, shelves: asyncpg.Connection, waiting: Waiting
) -> None:
    await post(admin, "in", **BOLT, quantity="10")
    count = await open_count(admin, BOLT="8")
    async with database.write() as db:
        await stock.post_one(db, system("test"), Issue(sku="BOLT", location="MAIN", quantity=Quantity(3)))
        posting = asyncio.create_task(admin.post(f"{COUNTS}/{count}/post", json={}))
        await eventually(waiting)
    problem = (await posting).json()
    assert (problem["type"], problem["lines"][0]["on_hand"]) == ("/problems/stock-moved", "7")
