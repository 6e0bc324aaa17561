"""A count of 5,000 lines: as many statements as one of a few, and no look through the ledger."""

from decimal import Decimal
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.decimals import Level
from erp_service.inventory.counts import service
from erp_service.inventory.counts.posting import post_count
from erp_service.inventory.counts.schemas import MOST_LINES, CountBody, CountLineBody, CountLines, CountPosting
from erp_service.inventory.problems import TooManyEntries
from erp_service.inventory.queries.ledger import document_by_id
from tests.inventory.books import PATH, stocked
from tests.inventory.counts.counting import COUNTS, lines, recorded, refused
from tests.support.statements import sent_statements

WHO = system("test")


async def many_items(owner: asyncpg.Connection, count: int) -> None:
    """S1, S2 ..., each with 10 at MAIN worth 20."""
    await stocked(owner)
    await owner.execute(
        """
        with made as (
          insert into items (sku, name, unit) select 'S' || n, 'S', 'pcs' from generate_series(1, $1::bigint) n
          returning id
        ), document as (
          insert into stock_transactions (id) values (gen_random_uuid()) returning id
        ), levels as (
          insert into stock_values (item_id, on_hand, value, last_cost) select id, 10, 20, 2 from made
        ), balances as (
          insert into stock_balances (item_id, location_id, on_hand, last_occurred_at)
          select id, (select min(id) from locations), 10, now() - interval '1 day' from made
        )
        insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value,
            on_hand_after, item_on_hand_after, value_after, occurred_at)
          select d.id, row_number() over (), m.id, (select min(id) from locations), 'IN', 10, 20, 10, 10, 20,
            now() - interval '1 day'
          from made m, document d
        """,
        count,
    )
    await owner.execute("analyze")


def counted(first: int, count: int, quantity: int) -> list[CountLineBody]:
    return [CountLineBody(sku=f"S{n}", counted=Level(quantity)) for n in range(first, first + count)]


async def test_5_000_lines_take_as_many_statements_as_few(database: Database, owner: asyncpg.Connection) -> None:
    await many_items(owner, 5_100)
    numbers = set()
    for first, size in ((1, 10), (11, MOST_LINES), (5_011, 90)):
        with sent_statements() as opening:
            async with database.write() as db:
                count = await service.open_count(db, WHO, CountBody(location="MAIN"))
        with sent_statements() as recording:
            async with database.write() as db:
                body = CountLines(lines=counted(first, size, 9))
                await service.change_lines(db, WHO, await service.lock_open(db, count.id), body)
        with sent_statements() as posting:
            async with database.write() as db:
                done = await post_count(db, WHO, count.id, CountPosting())
        assert (done.lines, done.differing) == (size, size)
        numbers.add((len(opening), len(recording), len(posting)))
    assert numbers == {(4, 5, 9)}
    assert await owner.fetchval("select count(*) from stock_ledger where origin = 'COUNT'") == 5_100
    assert await owner.fetchval("select sum(on_hand) from stock_balances") == Decimal(9 * 5_100)


async def test_no_statement_of_a_count_reads_more_of_the_ledger_than_the_last_entry_of_each_item(
    database: Database, owner: asyncpg.Connection
) -> None:
    await many_items(owner, 3_000)
    scans = "select seq_scan, coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables where relname = 'stock_ledger'"
    async with database.write() as db:
        count = await service.open_count(db, WHO, CountBody(location="MAIN", lines=counted(1, 40, 9)))
        await service.change_lines(
            db, WHO, await service.lock_open(db, count.id), CountLines(lines=counted(41, 40, 10))
        )
        await post_count(db, WHO, count.id, CountPosting())
        ((sequential, fetched),) = await db.fetch(scans)
    assert sequential == 0
    assert fetched < 10 * 80


async def test_pages_of_lines_have_each_line_once(staff: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    await many_items(owner, 1_200)
    body = {"location": "MAIN", "lines": [{"sku": f"S{n}", "counted": n % 2 * 10} for n in range(1, 1_201)]}
    count = (await staff.post(COUNTS, json=body)).json()
    assert (count["lines"], count["differing"], count["moved"]) == (1_200, 600, 0)
    seen, cursor = [], None
    while True:
        params = {"limit": 500} | ({"cursor": cursor} if cursor else {})
        page = (await staff.get(f"{COUNTS}/{count['id']}/lines", params=params)).json()
        seen += [line["sku"] for line in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == [f"S{n}" for n in range(1, 1_201)]


async def test_document_of_a_count_of_5_000_lines_can_be_read_and_reversed(
    admin: httpx.AsyncClient, database: Database, owner: asyncpg.Connection
) -> None:
    await many_items(owner, MOST_LINES)
    async with database.write() as db:
        count = await service.open_count(db, WHO, CountBody(location="MAIN", lines=counted(1, MOST_LINES, 9)))
        done = await post_count(db, WHO, count.id, CountPosting())
    document = UUID(str(done.transaction_id))
    async with database.read() as db:
        assert len((await document_by_id(db, document)).entries) == MOST_LINES
    answer = await admin.post(f"{PATH}/transactions/{document}/reverse", json={"reason": "wrong shelf"})
    assert answer.status_code == 201, answer.text[:300]
    assert await owner.fetchval("select sum(on_hand) from stock_balances") == 10 * MOST_LINES


async def test_document_has_as_many_entries_as_a_count_can_post(database: Database, owner: asyncpg.Connection) -> None:
    """A settlement for each line. A larger one can only be that of an import."""
    await many_items(owner, 2 * MOST_LINES)
    async with database.read() as db:
        document = await db.scalar(text("select id from stock_transactions"))
        assert len((await document_by_id(db, document)).entries) == 2 * MOST_LINES
    await owner.execute(
        "insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value,"
        " on_hand_after, item_on_hand_after, value_after, occurred_at)"
        " select transaction_id, 0, item_id, location_id, entry_type, 1, 1, 11, 11, 21, now() from stock_ledger limit 1"
    )
    async with database.read() as db:
        with pytest.raises(TooManyEntries):
            await document_by_id(db, document)


async def test_count_with_more_differences_than_a_document_takes_is_refused_and_can_be_split(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    await many_items(owner, MOST_LINES + 1)
    count = (await admin.post(COUNTS, json={"location": "MAIN"})).json()["id"]
    problem = await refused(admin, count, uncounted="zero")
    assert (problem["type"], problem["differences"]) == ("/problems/too-many-differences", MOST_LINES + 1)
    assert await lines(admin, count) == {}
    await recorded(admin, count, {"sku": "S1", "counted": "10"})
    answer = await admin.post(f"{COUNTS}/{count}/post", json={"uncounted": "zero"})
    assert (answer.status_code, answer.json()["differing"]) == (200, MOST_LINES)


async def test_stock_moved_lists_the_first_100_and_counts_all(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    await many_items(owner, 150)
    body = {"location": "MAIN", "lines": [{"sku": f"S{n}", "counted": 9} for n in range(1, 151)]}
    count = (await admin.post(COUNTS, json=body)).json()["id"]
    out = [{"transaction_type": "OUT", "sku": f"S{n}", "location": "MAIN", "quantity": 1} for n in range(1, 151)]
    assert (await admin.post(f"{PATH}/movements", json={"movements": out})).status_code == 201
    problem = await refused(admin, count)
    assert (problem["moved"], [line["sku"] for line in problem["lines"]]) == (150, [f"S{n}" for n in range(1, 101)])
