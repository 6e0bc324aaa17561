"""The proofs: right books pass, and each way to spoil them is found and named."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from erp_service.db import Database
from erp_service.demo import load_demo
from erp_service.exports.storage.base import Key
from erp_service.exports.storage.registry import open_store, store_fault
from erp_service.roles import Role
from erp_service.settings import Settings
from erp_service.verify import CHECKS, MOST_ROWS, Finding, verify
from tests.conftest import make_user


@pytest.fixture
async def books(settings: Settings, owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """Demo stock, and a connection that no trigger, foreign key or right holds back."""
    await load_demo(settings.database_url)
    await owner.execute("insert into locations (code, name, location_type) values ('EMPTY', 'Empty', 'BIN')")
    await owner.execute("set session_replication_role = replica")
    for constraint in ("on_hand_not_negative", "nothing_is_worth_nothing", "value_not_negative"):
        await owner.execute(f"alter table stock_balances drop constraint stock_balances_{constraint}")
    yield owner


ONE = (
    "(item_id, location_id) = (select item_id, location_id from stock_balances where on_hand > 5 order by 1, 2 limit 1)"
)
LAST = f"id = (select max(id) from stock_ledger where {ONE})"

SPOILED = {
    "quantity of a balance": (f"update stock_balances set on_hand = on_hand + 0.000001 where {ONE}", ["balances"]),
    "value of a balance": (f"update stock_balances set value = value - 0.0001 where {ONE}", ["balances"]),
    "a balance is gone": (f"delete from stock_balances where {ONE}", ["balances"]),
    "a balance without a ledger": (
        "insert into stock_balances (item_id, location_id, on_hand)"
        " select min(i.id), l.id, 1 from items i, locations l where l.code = 'EMPTY' group by l.id",
        ["balances"],
    ),
    "the last entry is gone": (f"delete from stock_ledger where {LAST}", ["balances"]),
    "an entry in the middle is gone": (
        f"delete from stock_ledger where id = (select min(id) from stock_ledger where {ONE})",
        ["balances", "chain"],
    ),
    "quantity of an entry": (f"update stock_ledger set quantity = quantity + 1 where {LAST}", ["balances", "chain"]),
    "value of an entry": (f"update stock_ledger set value = value + 1 where {LAST}", ["balances", "chain"]),
    "running quantity": (f"update stock_ledger set on_hand_after = on_hand_after + 1 where {LAST}", ["chain"]),
    "running value": (f"update stock_ledger set value_after = 0 where {LAST}", ["chain"]),
    "two entries change their order": (
        f"with two as (select id from stock_ledger where {ONE} order by id desc limit 2),"
        " gone as (select min(id) as a, max(id) as b from two)"
        " update stock_ledger set id = 1000000 from gone where id = gone.a",
        ["chain"],
    ),
    "one end of a transfer": (
        "update stock_ledger set entry_type = 'IN'"
        " where id = (select min(id) from stock_ledger where entry_type = 'TRANSFER_IN')",
        ["transfers"],
    ),
    "negative stock": (
        f"with spoiled as (update stock_balances set on_hand = -1, value = 0 where {ONE} returning *)"
        " insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value,"
        "   on_hand_after, value_after, occurred_at)"
        " select gen_random_uuid(), 1, s.item_id, s.location_id, 'OUT', -1 - b.on_hand, -b.value, -1, 0, now()"
        " from spoiled s join stock_balances b using (item_id, location_id)",
        ["negative stock"],
    ),
    "value of nothing": (
        f"with spoiled as (update stock_balances set on_hand = 0, value = 1 where {ONE} returning *)"
        " insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value,"
        "   on_hand_after, value_after, occurred_at)"
        " select gen_random_uuid(), 1, s.item_id, s.location_id, 'OUT', -b.on_hand, 1 - b.value, 0, 1, now()"
        " from spoiled s join stock_balances b using (item_id, location_id)",
        ["empty places"],
    ),
    "a flag": (f"update stock_balances set allows_negative = true where {ONE}", ["flags"]),
}


async def test_right_books_hold(settings: Settings, books: asyncpg.Connection) -> None:
    assert await verify(settings) == []


async def test_each_way_to_spoil_the_books_is_found(settings: Settings, books: asyncpg.Connection) -> None:
    found: set[str] = set()
    for name, (statement, checks) in SPOILED.items():
        async with spoiled(settings, books, statement) as findings:
            assert [finding.check for finding in findings] == checks, name
            assert all(finding.rows and finding.total >= len(finding.rows) for finding in findings)
            found.update(checks)
    assert found == {check.name for check in CHECKS}
    assert await verify(settings) == []


class spoiled:  # noqa: N801 - reads as what it does
    """What `verify` finds after the statement; the tables it may touch are as before when this ends."""

    def __init__(self, settings: Settings, books: asyncpg.Connection, statement: str) -> None:
        self.settings, self.books, self.statement = settings, books, statement

    async def __aenter__(self) -> list[Finding]:
        for table in ("stock_balances", "stock_ledger"):
            await self.books.execute(f"create table kept_{table} as table {table}")
        assert (await self.books.execute(self.statement)).split()[-1] != "0", "nothing was spoiled"
        return await verify(self.settings)

    async def __aexit__(self, *_: object) -> None:
        for table in ("stock_balances", "stock_ledger"):
            await self.books.execute(f"delete from {table}")
            await self.books.execute(f"insert into {table} overriding system value table kept_{table}")
            await self.books.execute(f"drop table kept_{table}")


async def test_a_finding_shows_some_rows_and_counts_all(settings: Settings, books: asyncpg.Connection) -> None:
    await books.execute("update stock_balances set value = value + 1")
    rows = await books.fetchval("select count(*) from stock_balances")
    (finding,) = await verify(settings)
    assert (finding.total, len(finding.rows)) == (rows, MOST_ROWS)
    told = str(finding).splitlines()
    assert told[0].startswith("balances: it does not hold that what is on hand")
    assert told[0].endswith(f"{rows} at fault:")
    assert len(told) == MOST_ROWS + 2
    assert told[-1] == f"  and {rows - MOST_ROWS} more"


CONTENT = b"sku,name\n" * 1000
Publish = Callable[[], Awaitable[UUID]]


@pytest.fixture
async def publish(settings: Settings, database: Database, owner: asyncpg.Connection) -> Publish:
    store = open_store(settings)
    async with database.read() as db:
        assert await store_fault(db, database, store) is None
    user_id = await make_user(database, Role.ADMIN)
    # a job begins queued, and its trigger would hold us to that
    await owner.execute("set session_replication_role = replica")

    async def publish() -> UUID:
        key = Key(uuid7(), 1, "csv")
        async with store.writing(key) as write:
            await write(CONTENT)
        await owner.execute(
            "insert into export_jobs (id, user_id, dataset, format, compression, spec, retention_hours, status,"
            " result_rows, result_bytes, sha256, file_key, media_type, filename, expires_at, snapshot_at)"
            " values ($1, $2, 'items', 'csv', 'none', '{}', 1, 'succeeded', 999, $3, $4, $5, 'text/csv', 'x.csv',"
            " now() + interval '1 hour', now())",
            *(key.export_id, user_id, len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), str(key)),
        )
        return key.export_id

    return publish


async def test_files_of_exports_are_compared_with_what_was_published(
    settings: Settings, publish: Publish, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    right, gone, short, changed, expired = [await publish() for _ in range(5)]
    assert await verify(settings) == []
    file = {export: tmp_path / "exports" / f"{export}.1.csv" for export in (right, gone, short, changed, expired)}
    file[gone].unlink()
    file[expired].unlink()
    await owner.execute("update export_jobs set status = 'expired' where id = $1", expired)
    file[short].write_bytes(CONTENT[:-1])
    file[changed].write_bytes(b"X" + CONTENT[1:])
    (finding,) = await verify(settings)
    assert finding.check == "export files"
    assert finding.total == 3
    faults = {row["export"]: row["fault"] for row in finding.rows}
    assert faults == {
        gone: "it is not there",
        short: f"it has {len(CONTENT) - 1} bytes instead of {len(CONTENT)}",
        changed: f"its sha256 is {hashlib.sha256(b'X' + CONTENT[1:]).hexdigest()}, "
        f"not {hashlib.sha256(CONTENT).hexdigest()}",
    }


async def test_another_store_is_told_instead_of_each_file_that_is_not_in_it(
    settings: Settings, publish: Publish, tmp_path: Path
) -> None:
    await publish()
    (tmp_path / "exports").rename(tmp_path / "elsewhere")
    (finding,) = await verify(settings)
    assert (finding.check, finding.total) == ("export files", 1)
    assert "the export store is the one the database knows" in str(finding)
