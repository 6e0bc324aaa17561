"""One real year of a small trading company, in: 545,867 movements, checked, posted and proved."""

import asyncio
import os
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import asyncpg
import pytest

from erp_service import schema
from erp_service.db import asyncpg_arguments
from erp_service.embedded import Cluster
from erp_service.inventory.loading import Loaded, load
from erp_service.inventory.records import ImportRefused
from erp_service.principals import system
from erp_service.settings import Settings
from erp_service.verify import verify
from tests.conftest import as_owner

ROOT = Path(__file__).parents[2]
DATA = ROOT / os.environ.get("ERP_REAL_DATA", "../shared/data/online_retail")
FILES = {"items": "items.csv", "locations": "locations.csv", "movements": "movements.csv.xz"}


class Year(NamedTuple):
    """The database with the year in it, and how it got there."""

    url: str
    owner_url: str
    loaded: dict[str, Loaded]
    seconds: float
    told: list[tuple[int, int, str]]


@pytest.fixture(scope="session")
async def year(cluster: Cluster) -> AsyncIterator[Year]:
    name = f"year_{os.getpid()}"
    await as_owner(cluster, f'create database "{name}"')
    await schema.migrate(cluster.owner_url(name))
    told: list[tuple[int, int, str]] = []
    start = perf_counter()
    loaded = {
        kind: await load(
            cluster.app_url(name),
            kind,  # type: ignore[arg-type]
            DATA / file,
            who=system("erp import"),
            progress=lambda done, total, phase: told.append((done, total, phase)),
        )
        for kind, file in FILES.items()
    }
    yield Year(cluster.app_url(name), cluster.owner_url(name), loaded, perf_counter() - start, told)
    await as_owner(cluster, f'drop database "{name}" with (force)')


@pytest.fixture
async def books(year: Year) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**asyncpg_arguments(year.owner_url))
    yield connection
    await connection.close()


async def test_the_year_is_imported_in_under_two_minutes(year: Year) -> None:
    rows = {kind: loaded.rows for kind, loaded in year.loaded.items()}
    assert rows == {"items": 3_958, "locations": 1, "movements": 545_867}
    assert year.seconds < 120
    for phase in ("checking", "posting"):
        done = [done for done, _, told in year.told if told == phase]
        assert done[-1] == 545_867
        assert len(done) > 50, "a progress bar must move"


async def test_stock_on_hand_is_what_the_year_left(year: Year, books: asyncpg.Connection) -> None:
    assert await books.fetchval("select sum(on_hand) from stock_balances") == Decimal(555_668)
    assert await books.fetchval("select min(on_hand_after) from stock_ledger") >= 100
    kinds = dict(await books.fetch("select entry_type, count(*) from stock_ledger group by entry_type"))
    assert kinds == {"IN": 3_958 + 9_288, "OUT": 531_285, "ADJUSTMENT": 1_336}
    in_order = "select bool_and(ordered) from (select occurred_at >= lag(occurred_at) over (order by id) as ordered"
    assert await books.fetchval(f"{in_order} from stock_ledger) e")


async def test_the_books_hold(year: Year, tmp_path: Path) -> None:
    start = perf_counter()
    assert await verify(Settings(database_url=year.url, export_store=f"file://{tmp_path}")) == []
    assert perf_counter() - start < 60


async def test_a_second_import_is_refused_with_its_reason_and_changes_nothing(
    year: Year, books: asyncpg.Connection
) -> None:
    counts = (
        "select (select count(*) from stock_ledger), (select sum(on_hand) from stock_balances),"
        " (select count(*) from audit_log), (select count(*) from imports)"
    )
    before = await books.fetchrow(counts)
    for kind, file in FILES.items():
        with pytest.raises(ImportRefused, match="This content was imported already: .* on 2"):
            await load(year.url, kind, DATA / file, who=system("erp import"))  # type: ignore[arg-type]
    assert await books.fetchrow(counts) == before


async def test_customers_and_prices_are_kept_as_metadata(year: Year, books: asyncpg.Connection) -> None:
    kept = await books.fetchrow(
        "select count(*) filter (where metadata ? 'customer'), count(*) filter (where metadata ? 'unit_price'),"
        " min(metadata::text) from stock_ledger where entry_type <> 'IN' or reference_no <> 'OPENING'"
    )
    lines = await asyncio.to_thread((DATA / "README.md").read_text)
    without = int(lines.split(" lines have no customer")[0].split()[-1].replace(",", ""))
    assert tuple(kept)[:2] == (541_909 - without, 541_909)
