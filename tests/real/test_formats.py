"""The year as a sheet and as Parquet, read back with common libraries: every value of every row."""

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erp_service.exports.catalogue import DATASETS
from tests.exports.formats.encoded import records
from tests.exports.jobs import JOBS, reaches, submitted
from tests.real.year import MOVEMENTS, Year
from tests.support.workers import Work

NAMES = [column.name for column in DATASETS["stock_movements"].columns]
MILLISECOND = dt.timedelta(milliseconds=1)


@pytest.fixture
async def stored(owner: asyncpg.Connection) -> list[tuple[Any, ...]]:
    return await records(owner, "stock_movements")


async def exported(client: httpx.AsyncClient, work: Work, format_: str) -> bytes:
    async with work():
        export = await submitted(client, "stock_movements", format=format_)
        job = await reaches(client, export, "succeeded", "failed", seconds=180)
    answer = await client.get(f"{JOBS}/{export}/download")
    assert answer.status_code == 200, job
    assert job["result"]["rows"] == MOVEMENTS
    return answer.content


async def test_the_year_as_parquet_has_every_value(
    year: Year, staff: httpx.AsyncClient, work: Work, stored: list[tuple[Any, ...]]
) -> None:
    content = await exported(staff, work, "parquet")
    table = pq.read_table(io.BytesIO(content))
    assert table.schema.field("quantity").type == pa.decimal128(18, 6)
    columns = [column.to_pylist() for column in table.columns]
    assert [list(column) for column in zip(*stored, strict=True)] == columns
    frame = pl.read_parquet(io.BytesIO(content))
    assert frame["quantity"].sum() == sum(row[NAMES.index("quantity")] for row in stored)
    assert [frame[name].to_list() for name in NAMES] == columns


async def test_the_year_as_a_sheet_has_every_value(
    year: Year, staff: httpx.AsyncClient, work: Work, stored: list[tuple[Any, ...]]
) -> None:
    content = await exported(staff, work, "xlsx")
    kinds: dict[str, Any] = {"integer": pl.Int64, "decimal": pl.Float64, "timestamp": pl.Datetime("ms")}
    types = {column.name: kinds.get(column.type, pl.String) for column in DATASETS["stock_movements"].columns}
    frame = pl.read_excel(io.BytesIO(content), schema_overrides=types, drop_empty_cols=False)
    for column, values in zip(DATASETS["stock_movements"].columns, zip(*stored, strict=True), strict=True):
        found = frame[column.name].to_list()
        if column.type == "decimal":
            found = [None if number is None else Decimal(str(number)) for number in found]
        if column.type == "timestamp":
            times = zip(found, values, strict=True)
            assert all(abs(time.replace(tzinfo=dt.UTC) - value) <= MILLISECOND for time, value in times)
        else:
            assert found == list(values), column.name
