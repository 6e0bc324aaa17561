"""The ledger under concurrency: nothing is sold twice, nothing deadlocks, and the books are right after every storm."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.decimals import Quantity
from erp_service.inventory.posting import reversal, service
from erp_service.inventory.posting.schemas import Issue, Receipt, ReceiptLine, Reversal, Transfer
from erp_service.settings import Settings
from erp_service.validation import decode
from tests.inventory.books import PATH, assert_books, balance, stocked
from tests.support.databases import connected
from tests.support.statements import sent_statements
from tests.support.waiting import eventually

WHO = system("test")
MISTAKE: Reversal = decode(Reversal, b'{"reason": "a mistake"}')


async def receive(client: httpx.AsyncClient, sku: str, quantity: str, cost: str = "1", location: str = "MAIN") -> None:
    body = {"sku": sku, "location": location, "quantity": quantity, "unit_cost": cost}
    answer = await client.post(f"{PATH}/in", json=body)
    assert answer.status_code == 201, answer.text


async def test_last_unit_sold_twice(staff: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    """64 at once want the one unit that there is: one gets it, 63 are told that 0 are available."""
    (item,) = await stocked(owner, "LAST")
    await receive(staff, "LAST", "1")
    body = {"sku": "LAST", "location": "MAIN", "quantity": "1"}
    answers = await asyncio.gather(*(staff.post(f"{PATH}/out", json=body) for _ in range(64)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 63}
    location = await owner.fetchval("select id from locations where code = 'MAIN'")
    for problem in (answer.json() for answer in answers if answer.status_code == 409):
        assert problem["type"] == "/problems/insufficient-stock"
        assert (problem["available"], problem["item_id"], problem["location_id"]) == ("0", item, location)
    assert await balance(owner, "LAST", "MAIN") == "0 0"
    await assert_books(owner)


async def test_last_unit_sold_twice_in_one_document(staff: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    await stocked(owner, "OTHER", "LAST")
    await receive(staff, "LAST", "3")
    lines = [
        {"transaction_type": "IN", "sku": "OTHER", "location": "MAIN", "quantity": "5"},
        {"transaction_type": "OUT", "sku": "LAST", "location": "MAIN", "quantity": "2"},
        {"transaction_type": "OUT", "sku": "LAST", "location": "MAIN", "quantity": "2"},
    ]
    answer = await staff.post(f"{PATH}/movements", json={"movements": lines})
    assert (answer.status_code, answer.json()["available"]) == (409, "1")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/movements/2/quantity"]
    assert await balance(owner, "LAST", "MAIN") == "3 3"
    assert await balance(owner, "OTHER", "MAIN") == ""
    assert await owner.fetchval("select count(*) from stock_transactions") == 1


async def test_retry_that_posts_twice(staff: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    await stocked(owner, "BOLT")
    body = {"sku": "BOLT", "location": "MAIN", "quantity": "5", "unit_cost": "2"}
    key = {"Idempotency-Key": "delivery-17"}
    answers = await asyncio.gather(*(staff.post(f"{PATH}/in", json=body, headers=key) for _ in range(10)))
    answers.append(await staff.post(f"{PATH}/in", json=body, headers=key))
    done = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.text for answer in done}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in done) == 1
    assert answers[-1].headers["Idempotency-Replayed"] == "true"
    assert answers[-1].headers["Location"] == done[0].headers["Location"]
    assert await balance(owner, "BOLT", "MAIN") == "5 10"
    assert await owner.fetchval("select count(*) from audit_log where action = 'stock.posted'") == 1


async def test_crossing_transfers_do_not_deadlock(staff: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    await stocked(owner, "BOLT")
    await receive(staff, "BOLT", "100", "1.01")
    await receive(staff, "BOLT", "100", "1.07", "SHOP")

    async def shuttle(source: str, target: str) -> None:
        body = {"sku": "BOLT", "from_location": source, "to_location": target, "quantity": "3"}
        for _ in range(25):
            answer = await staff.post(f"{PATH}/transfer", json=body)
            assert answer.status_code == 201, answer.text

    await asyncio.gather(shuttle("MAIN", "SHOP"), shuttle("SHOP", "MAIN"))
    on_hand, value = await owner.fetchrow("select sum(on_hand), sum(value) from stock_values")
    assert (on_hand, value) == (200, 208)
    await assert_books(owner)


async def test_many_documents_at_once_do_not_deadlock(staff: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    """Documents whose lines name the same few balances in every order, some of them made on the way."""
    skus, places = [f"S{n}" for n in range(5)], ("MAIN", "SHOP", "BIN-")
    await stocked(owner, *skus, places=places)
    seen: Counter[int] = Counter()

    async def client(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(8):
            lines = [random_line(choose, skus, places) for _ in range(10)]
            answer = await staff.post(f"{PATH}/movements", json={"movements": lines})
            assert answer.status_code in (201, 409), answer.text
            assert answer.status_code == 201 or answer.json()["type"] == "/problems/insufficient-stock"
            seen[answer.status_code] += 1

    await asyncio.gather(*(client(seed) for seed in range(10)))
    assert seen[201] > 10
    assert await owner.fetchval("select count(*) from stock_transactions") == seen[201]
    await assert_books(owner)


def random_line(choose: random.Random, skus: list[str], places: tuple[str, ...]) -> dict[str, str]:
    source, target = choose.sample(places, 2)
    line = {"sku": choose.choice(skus), "quantity": str(choose.randint(1, 4))}
    match choose.choice(["IN", "IN", "OUT", "TRANSFER"]):
        case "IN":
            cost = str(choose.randint(0, 999) / 100)
            return line | {"transaction_type": "IN", "location": source, "unit_cost": cost, "quantity": "9"}
        case "OUT":
            return line | {"transaction_type": "OUT", "location": source}
        case _:
            return line | {"transaction_type": "TRANSFER", "from_location": source, "to_location": target}


async def test_first_receipts_at_once_lose_nothing(staff: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    await stocked(owner, "NEW")
    await asyncio.gather(*(receive(staff, "NEW", "1", str(n)) for n in range(32)))
    assert await balance(owner, "NEW", "MAIN") == f"32 {sum(range(32))}"
    await assert_books(owner)


Waiting = Callable[[], Awaitable[int]]


def one(sku: str) -> Receipt:
    return Receipt(sku=sku, location="MAIN", quantity=Quantity(1))


async def test_item_is_not_deleted_while_a_receipt_commits(
    database: Database, owner: asyncpg.Connection, waiting: Waiting
) -> None:
    (item,) = await stocked(owner, "BOLT")

    async def on_hand_as_the_deleter_sees_it() -> Decimal:
        async with database.write() as db:
            await db.execute(text("select id from items where id = :id for update"), {"id": item})
            found = await db.scalar(text("select sum(on_hand) from stock_balances where item_id = :id"), {"id": item})
            return found or Decimal(0)

    async with database.write() as db:
        await service.post_one(db, WHO, one("BOLT"))
        deleter = asyncio.create_task(on_hand_as_the_deleter_sees_it())
        await eventually(waiting)
    assert await deleter == 1


async def test_receipt_waits_for_a_delete_and_is_refused(
    database: Database, owner: asyncpg.Connection, staff: httpx.AsyncClient, waiting: Waiting
) -> None:
    (item,) = await stocked(owner, "BOLT")
    async with database.write() as db:
        await db.execute(text("select id from items where id = :id for update"), {"id": item})
        body = {"sku": "BOLT", "location": "MAIN", "quantity": "1"}
        receipt = asyncio.create_task(staff.post(f"{PATH}/in", json=body))
        await eventually(waiting)
        await db.execute(text("update items set deleted_at = now() where id = :id"), {"id": item})
    answer = await receipt
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/sku")
    assert await owner.fetchval("select count(*) from stock_balances") == 0


async def test_stock_that_gets_slower_with_history(database: Database, owner: asyncpg.Connection) -> None:
    """No statement of a posting, of whatever kind, reads a single row of the ledger, nor scans it for nothing."""
    await stocked(owner, "BOLT", "NUT")
    movements: list[service.AnyMovement] = [
        one("BOLT"),
        Issue(sku="BOLT", location="MAIN", quantity=Quantity(1)),
        one("NUT"),
        one("BOLT"),
    ]
    move = Transfer(sku="NUT", from_location="MAIN", to_location="SHOP", quantity=Quantity(1))
    async with database.write() as db:
        await service.post_all(db, WHO, [*movements, move])
        await service.post_one(db, WHO, movements[0])
        scans = text(
            "select seq_scan, coalesce(idx_scan, 0), n_tup_ins from pg_stat_xact_user_tables"
            " where relname = 'stock_ledger'"
        )
        assert (await db.execute(scans)).one() == (0, 0, 7)


async def test_ids_follow_the_lines_of_a_document(database: Database, owner: asyncpg.Connection) -> None:
    await stocked(owner, *(f"S{n}" for n in range(50)))
    order = random.Random(7).choices(range(50), k=1000)
    lines = [ReceiptLine(sku=f"S{n}", location="MAIN", quantity=Quantity(1)) for n in order]
    async with database.write() as db:
        document = await service.post_all(db, WHO, lines)
    ids = [entry.id for entry in document.entries]
    assert ids == list(range(ids[0], ids[0] + 1000))
    stored = await owner.fetch("select l.line, i.sku from stock_ledger l join items i on i.id = item_id order by l.id")
    assert [tuple(row) for row in stored] == [(at, f"S{n}") for at, n in enumerate(order, 1)]
    await assert_books(owner)


async def test_not_even_a_superuser_changes_the_ledger(database: Database, owner: asyncpg.Connection) -> None:
    await stocked(owner, "BOLT")
    async with database.write() as db:
        await service.post_one(db, WHO, one("BOLT"))
    for change in ("update stock_ledger set notes = 'x'", "delete from stock_ledger", "truncate stock_ledger"):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await owner.execute(change)
    assert await owner.fetchval("select count(*) from stock_ledger where notes is null") == 1


async def test_not_even_a_superuser_removes_what_the_ledger_names(
    settings: Settings, database: Database, owner: asyncpg.Connection, waiting: Waiting
) -> None:
    """Also when nothing but the ledger names it any more, and while it is being posted to."""
    await stocked(owner, "BOLT", "NUT")
    async with connected(settings.migration_database_url or "") as other:
        async with database.write() as db:
            await service.post_one(db, WHO, one("BOLT"))
            deleting = asyncio.create_task(other.execute("delete from items"))
            await eventually(waiting)
        with pytest.raises(asyncpg.ForeignKeyViolationError, match="the ledger has entries of these items"):
            await deleting
    await owner.execute("delete from stock_balances; delete from stock_values")
    for table, word in (("items", "sku = 'BOLT'"), ("locations", "code = 'MAIN'")):
        for change in (
            f"delete from {table} where {word}",
            f"update {table} set id = default where {word}",
            f"truncate {table} cascade",
        ):
            with pytest.raises(asyncpg.ForeignKeyViolationError, match=f"the ledger has entries of these {table}"):
                await owner.execute(change)
    assert await owner.execute("delete from items where sku = 'NUT'") == "DELETE 1"
    assert await owner.execute("delete from locations where code = 'SHOP'") == "DELETE 1"


async def test_a_document_of_many_lines_takes_as_many_statements_as_one_of_few(
    database: Database, owner: asyncpg.Connection
) -> None:
    await stocked(owner, *(f"S{n}" for n in range(50)))
    counts = set()
    for size in (10, 1000, 10, 1000):  # the first of each size inserts balances
        lines = [ReceiptLine(sku=f"S{size % 7 + n % 40}", location="MAIN", quantity=Quantity(1)) for n in range(size)]
        with sent_statements() as posting:
            async with database.write() as db:
                document = await service.post_all(db, WHO, lines)
        with sent_statements() as reversing:
            async with database.write() as db:
                await reversal.reverse(db, WHO, document.transaction_id, MISTAKE)
        counts.add((len(posting), len(reversing)))
    assert counts == {(4, 5), (2, 5)}
    await assert_books(owner)


async def test_one_movement_takes_two_statements(database: Database, owner: asyncpg.Connection) -> None:
    await stocked(owner, "BOLT")
    move = Transfer(sku="BOLT", from_location="MAIN", to_location="SHOP", quantity=Quantity(1))
    counts = []
    for movement in (one("BOLT"), move, one("BOLT"), move):
        with sent_statements() as sent:
            async with database.write() as db:
                await service.post_one(db, WHO, movement)
        counts.append(len(sent))
    assert counts == [4, 4, 2, 2]  # the first of each inserts a balance


async def test_statements_of_a_posting_are_not_planned_anew_each_time(
    database: Database, owner: asyncpg.Connection
) -> None:
    """Postgres plans for the parameters five times, and then keeps a general plan if that looks no worse. To plan a
    receipt took nearly as long as to run it."""
    await stocked(owner, "BOLT")
    plans = text(
        "select custom_plans, generic_plans from pg_prepared_statements"
        " where ltrim(statement, E'\\n') like 'with arguments%'"
    )
    async with database.write() as db:
        for _ in range(8):
            await service.post_one(db, WHO, one("BOLT"))
        # the first locks again after it has inserted the balance
        assert sorted(tuple(row) for row in await db.execute(plans)) == [(5, 3), (5, 4)]


async def test_the_database_itself_refuses_an_unsound_balance(database: Database, owner: asyncpg.Connection) -> None:
    await stocked(owner, "BOLT")
    async with database.write() as db:
        await service.post_one(db, WHO, one("BOLT"))
    await owner.execute("update stock_values set value = 3; update stock_balances set reserved = 1")
    for change in (
        *("stock_balances set on_hand = 'NaN'", "stock_balances set on_hand = -1", "stock_balances set on_hand = 0.5"),
        *(
            "stock_balances set reserved = -1",
            "stock_balances set reserved = 1.5",
            "stock_balances set reserved = 'NaN'",
        ),
        *("stock_values set value = 'NaN'", "stock_values set value = -1", "stock_values set on_hand = 0"),
        *("stock_values set on_hand = -1", "stock_values set last_cost = -1", "stock_values set last_cost = 'NaN'"),
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await owner.execute(f"update {change}")
