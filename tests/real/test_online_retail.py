"""One real year of a small trading company: 545,867 movements, checked, posted and proved; and exported again."""

import hashlib
from decimal import Decimal

import asyncpg
import httpx
import pytest

from erp_service.access.principals import system
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.planning.selection import psql_text
from erp_service.imports.files.faults import ImportRefused
from erp_service.imports.service import load
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from tests.exports.jobs import JOBS, reaches, submitted
from tests.real.year import DATA, FILES, MOVEMENTS, Year
from tests.support.psql import Psql
from tests.support.workers import Work


async def test_the_year_is_imported_whole(year: Year) -> None:
    rows = {kind: loaded.rows for kind, loaded in year.loaded.items()}
    assert rows == {"items": 3_958, "locations": 1, "movements": MOVEMENTS}
    for phase in ("checking", "posting"):
        done = [done for done, _, told in year.told if told == phase]
        assert done[-1] == MOVEMENTS
        assert len(done) > 50, "a progress bar must move"


async def test_stock_on_hand_is_what_the_year_left(year: Year, owner: asyncpg.Connection) -> None:
    assert await owner.fetchval("select sum(on_hand) from stock_balances") == Decimal(555_668)
    assert await owner.fetchval("select min(on_hand_after) from stock_ledger") >= 100
    kinds = dict(await owner.fetch("select entry_type, count(*) from stock_ledger group by entry_type"))
    assert kinds == {"IN": 3_958 + 9_288, "OUT": 531_285, "ADJUSTMENT": 1_336}
    steps = "select occurred_at >= lag(occurred_at) over (order by id) as ordered from stock_ledger"
    assert await owner.fetchval(f"select bool_and(ordered) from ({steps}) steps")


async def test_customers_and_prices_are_kept_as_metadata(year: Year, owner: asyncpg.Connection) -> None:
    kept = await owner.fetchrow(
        "select count(*), count(*) filter (where metadata ? 'customer'),"
        " count(*) filter (where metadata ? 'unit_price') from stock_ledger where reference_no <> 'OPENING'"
    )
    # 135,080 lines have no customer, says the README of the data
    assert tuple(kept) == (541_909, 541_909 - 135_080, 541_909)


async def test_the_books_hold(year: Year, settings: Settings) -> None:
    assert await verify(settings) == []


async def test_a_second_import_is_refused_with_its_reason_and_changes_nothing(
    year: Year, settings: Settings, owner: asyncpg.Connection
) -> None:
    counts = (
        "select (select count(*) from stock_ledger), (select sum(on_hand) from stock_balances),"
        " (select count(*) from audit_log where action like 'import.%'), (select count(*) from imports)"
    )
    before = await owner.fetchrow(counts)
    for kind, file in FILES.items():
        with pytest.raises(ImportRefused, match=r"This content was imported already: [\d,]+ \w+ from .* on 20"):
            await load(settings.database_url, kind, DATA / file, who=system("erp import"))
    assert await owner.fetchrow(counts) == before


async def test_the_year_exported_is_byte_for_byte_what_psql_writes(
    year: Year, settings: Settings, staff: httpx.AsyncClient, work: Work, psql: Psql
) -> None:
    async with work():
        export = await submitted(staff, "stock_movements")
        job = await reaches(staff, export, "succeeded", "failed", seconds=60)
    file = await staff.get(f"{JOBS}/{export}/download")
    assert file.status_code == 200, job
    expected = psql(psql_text(DATASETS["stock_movements"]))
    assert file.content == expected
    result = job["result"]
    assert (result["rows"], result["bytes"]) == (MOVEMENTS, len(expected))
    assert int(file.headers["Content-Length"]) == len(expected)
    assert result["sha256"] == hashlib.sha256(expected).hexdigest()
    assert await verify(settings) == []
