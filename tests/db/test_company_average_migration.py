"""Migration 0017: each item is worth afterwards what it was worth before, and what the version before would post by
location is told to try again."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import asyncpg
import msgspec
import pytest

from erp_service import errors, validation
from erp_service.access.principals import system
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.db.outages import CONTENTION, sqlstate_of
from erp_service.decimals import Quantity
from erp_service.inventory.posting import reversal, service
from erp_service.inventory.posting.schemas import Issue, Receipt, Reversal
from erp_service.inventory.problems import AlreadyReversed
from erp_service.standalone.postgres import Cluster
from tests.db.old_postings import post_as_before, transfer_as_before
from tests.inventory.books import assert_books, worth
from tests.support.databases import as_owner, connected
from tests.support.schemas import migrate_to_before
from tests.support.settings import settings_for
from tests.support.statements import count_of_waiting
from tests.support.waiting import eventually

WHO = system("test")


@pytest.fixture
async def old(cluster: Cluster) -> AsyncIterator[str]:
    """The address of a database of the version before, with three items at three locations."""
    name = "values_by_location"
    await as_owner(cluster, f"create database {name}")
    url = cluster.owner_url(name)
    await migrate_to_before(url, "0017")
    async with connected(url) as owner:
        await owner.execute(
            "insert into items (sku, name, unit) select s, s, 'pcs' from unnest(array['BOLT', 'NUT', 'NEW']) s;"
            "insert into locations (code, name, location_type, allow_negative_stock)"
            " select c, c, 'BIN', c = 'YARD-' from unnest(array['MAIN', 'SHOP', 'YARD-']) c"
        )
    yield url
    await as_owner(cluster, f"drop database {name} with (force)")


@pytest.fixture
async def new(old: str, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Database]:
    """This version on that database; it works once the database is migrated."""
    database = Database(settings_for(cluster, "values_by_location", tmp_path), name="erp test")
    yield database
    await database.close()


async def test_each_item_keeps_its_value_and_what_was_posted_can_be_reversed(old: str, new: Database) -> None:
    async with connected(old) as owner:
        wrong = await post_as_before(owner, "BOLT", "MAIN", "10", "50", "5")
        await post_as_before(owner, "BOLT", "SHOP", "2", "20", "10")
        await transfer_as_before(owner, "BOLT", "MAIN", "SHOP", "4", "20")
        sold = await post_as_before(owner, "BOLT", "SHOP", "-1", "-6.6667")
        await schema.migrate(old)
        assert await worth(owner, "BOLT") == "11 63.3333"
        assert await owner.fetchval("select last_cost from stock_values") == 10
        async with new.write() as db:
            (issued,) = (
                await service.post_one(db, WHO, Issue(sku="BOLT", location="MAIN", quantity=Quantity(1)))
            ).entries
        assert issued.value == Decimal("-5.7576"), "at the average of the company"
        body = msgspec.convert({"reason": "by mistake"}, Reversal, dec_hook=validation.read_hook)
        for document, value in ((sold, "6.6667"), (wrong, None)):
            async with new.write() as db:
                if value is None:
                    with pytest.raises(errors.Conflict):
                        await reversal.reverse(db, WHO, document, body)  # type: ignore[arg-type]
                    continue
                (entry,) = (await reversal.reverse(db, WHO, document, body)).entries  # type: ignore[arg-type]
                assert entry.value == Decimal(value)
        await assert_books(owner)


async def test_a_value_that_no_average_gives_is_settled_and_the_ledger_says_so(old: str) -> None:
    """Stock below zero at one location and stock at another: nothing on hand that is worth something."""
    async with connected(old) as owner:
        await post_as_before(owner, "BOLT", "MAIN", "5", "50", "10")
        await post_as_before(owner, "BOLT", "YARD-", "-5", "-10")
        await post_as_before(owner, "NUT", "MAIN", "1", "2", "2")
        await post_as_before(owner, "NUT", "YARD-", "-3", "-1")
        await schema.migrate(old)
        assert [await worth(owner, sku) for sku in ("BOLT", "NUT", "NEW")] == ["0 0", "-2 -4", ""]
        settled = await owner.fetch(
            "select value, origin, location_id from stock_ledger where quantity = 0 order by id"
        )
        assert [tuple(row) for row in settled] == [
            (Decimal(-40), "SETTLEMENT", None),
            (Decimal(-5), "SETTLEMENT", None),
        ]
        await assert_books(owner)


async def test_a_receipt_at_a_guessed_zero_says_no_cost(old: str) -> None:
    async with connected(old) as owner:
        await post_as_before(owner, "BOLT", "MAIN", "5", "0")
        await post_as_before(owner, "NUT", "MAIN", "5", "0", "0")
        await schema.migrate(old)
        costs = await owner.fetch("select sku, last_cost from stock_values join items on id = item_id order by sku")
        assert [tuple(row) for row in costs] == [("BOLT", None), ("NUT", Decimal(0))]


async def test_postings_of_the_version_before_finish_and_later_ones_are_told_to_try_again(
    old: str, new: Database
) -> None:
    refusals: list[asyncpg.LockNotAvailableError] = []

    async def keep_posting() -> int:
        """Until this version is refused; the number of its receipts."""
        async with connected(old) as connection:
            for count in range(1_000_000):
                try:
                    await post_as_before(connection, "BOLT", "MAIN", "1", "2.5", "2.5")
                except asyncpg.LockNotAvailableError as error:
                    refusals.append(error)
                    return count
        raise AssertionError("it was never refused")

    async with connected(old) as owner, connected(old) as poster:
        posting = [asyncio.create_task(keep_posting()) for _ in range(3)]
        async with poster.transaction():
            await post_as_before(poster, "BOLT", "MAIN", "1", "2.5", "2.5")
            migration = asyncio.create_task(schema.migrate(old))
            await eventually(count_of_waiting(owner))
        await migration
        count = 1 + sum(await asyncio.gather(*posting))
        assert {sqlstate_of(refusal) for refusal in refusals} <= CONTENTION, "503 with Retry-After"
        assert all("try again" in str(refusal) for refusal in refusals)
        assert await worth(owner, "BOLT") == f"{count} {(Decimal(count) * 5 / 2).normalize():f}"
        async with new.write() as db:
            await service.post_one(db, WHO, Receipt(sku="BOLT", location="MAIN", quantity=Quantity(1)))
        await assert_books(owner)


async def test_what_the_version_before_has_reversed_is_not_reversed_again(old: str, new: Database) -> None:
    """Its reversals were of whole documents, and their entries do not say which ones they reverse."""
    async with connected(old) as owner:
        received = await post_as_before(owner, "BOLT", "MAIN", "10", "50", "5")
        undone = await post_as_before(owner, "BOLT", "MAIN", "-10", "-50")
        await owner.execute("set session_replication_role = replica")
        await owner.execute("update stock_transactions set reverses = $1 where id = $2", received, undone)
        await schema.migrate(old)
        body = msgspec.convert({"reason": "again"}, Reversal, dec_hook=validation.read_hook)
        async with new.write() as db:
            with pytest.raises(AlreadyReversed):
                await reversal.reverse(db, WHO, received, body)  # type: ignore[arg-type]
        async with new.write() as db:
            document = await reversal.reverse(db, WHO, undone, body)  # type: ignore[arg-type]
        assert [(entry.quantity, entry.value) for entry in document.entries] == [(Decimal(10), Decimal(50))]
