"""The year exported in each text format, in key ranges, and read back with common libraries."""

import gzip
import io
import json
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import polars as pl
import zstandard

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.planning.planner import COUNTED
from erp_service.exports.planning.selection import psql_text
from erp_service.exports.run import key_ranges
from tests.exports.jobs import JOBS, reaches, submitted
from tests.real.year import Year
from tests.support.psql import Psql
from tests.support.workers import Work

MOVEMENTS = 545_867


async def exported(client: httpx.AsyncClient, work: Work, **asked: Any) -> tuple[dict[str, Any], bytes]:
    async with work():
        export = await submitted(client, "stock_movements", **asked)
        job = await reaches(client, export, "succeeded", "failed", seconds=120)
    assert job["status"] == "succeeded", job
    assert job["result"]["rows"] == MOVEMENTS
    return job, (await client.get(f"{JOBS}/{export}/download")).content


async def test_the_year_comes_in_parts(year: Year, owner: asyncpg.Connection) -> None:
    assert MOVEMENTS > COUNTED
    assert await owner.fetchval("select max(id) from stock_ledger") / key_ranges.rows_per_range(400) > 10


async def test_gzip_holds_the_bytes_of_psql(year: Year, staff: httpx.AsyncClient, work: Work, psql: Psql) -> None:
    job, file = await exported(staff, work, compression="gzip")
    expected = psql(psql_text(DATASETS["stock_movements"]))
    assert gzip.decompress(file) == expected
    assert job["result"]["bytes"] < len(expected) / 3


async def test_zstd_in_descending_order_holds_the_same_rows(
    year: Year, staff: httpx.AsyncClient, work: Work, psql: Psql
) -> None:
    _, file = await exported(staff, work, compression="zstd", sort="-id")
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(file)) as reader:
        down = pl.read_csv(reader.read(), infer_schema=False)
    up = pl.read_csv(psql(psql_text(DATASETS["stock_movements"])), infer_schema=False)
    assert down.reverse().equals(up)


async def test_json_lines_hold_what_csv_holds(
    year: Year, staff: httpx.AsyncClient, work: Work, owner: asyncpg.Connection, psql: Psql
) -> None:
    _, file = await exported(staff, work, format="jsonl")
    rows = pl.read_csv(psql(psql_text(DATASETS["stock_movements"])), infer_schema=False).rows(named=True)
    sums: dict[str, Decimal] = {"quantity": Decimal(0), "value": Decimal(0)}
    count = 0
    for line, expected in zip(file.splitlines(), rows, strict=True):
        found = json.loads(line)
        for name, text in expected.items():
            value = found[name]
            if name == "metadata":
                assert value == json.loads(text)
            else:
                assert value == text if isinstance(value, str | None) else str(value) == text, name
        for name in sums:
            sums[name] += Decimal(found[name])
        count += 1
    assert count == MOVEMENTS
    assert sums == dict(await owner.fetchrow("select sum(quantity) as quantity, sum(value) as value from stock_ledger"))


async def test_a_spreadsheet_of_a_country_with_decimal_commas_reads_it(
    year: Year, staff: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    csv = {"delimiter": ";", "decimal_comma": True, "bom": True, "line_ending": "crlf", "formula_guard": True}
    _, file = await exported(staff, work, csv=csv)
    assert file.startswith(b"\xef\xbb\xbfid;")
    assert file.count(b"\r\n") == MOVEMENTS + 1
    frame = pl.read_csv(file, separator=";", decimal_comma=True, schema_overrides={"sku": pl.String},
                        columns=["sku", "quantity", "value"])  # fmt: skip
    assert frame["quantity"].sum() == float(await owner.fetchval("select sum(quantity) from stock_ledger"))
