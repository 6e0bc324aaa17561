"""Parquet files, read back with pyarrow and with polars."""

import datetime as dt
import io
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats.base import Options
from erp_service.exports.formats.parquet import PARQUET, ParquetEncoder, end_of_rows
from erp_service.registry.datasets import Column
from tests.exports.data import NASTY, copies, fill, many_items
from tests.exports.formats.encoded import ABOUT, File, encoded, everything, memory_for, records
from tests.exports.jobs import JOBS, done, reaches, submitted
from tests.exports.storage.gated_store import GatedStore
from tests.support.clients import UserClient
from tests.support.waiting import eventually
from tests.support.workers import Work

DATABASE = examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = [
    "\ufeff",
    *NASTY,
    "\ufeffmark",
    "\n",
    "\r\n",
    '"',
    '""',
    '"\n"',
    "\ufffe",
    "true",
    "12",
    "2020-01-01",
    "",
    "x" * 70_000,
]


def column(type_: Any, sql: str = "value", **more: Any) -> Column:
    return Column("cell", type_, sql, "for the test", **more)


def table(content: bytes) -> Any:
    return pq.read_table(io.BytesIO(content))


def cells(content: bytes) -> list[Any]:
    found: list[Any] = table(content).column("cell").to_pylist()
    assert pl.read_parquet(io.BytesIO(content)).get_column("cell").to_list() == found
    return found


async def written(owner: asyncpg.Connection, known: Column, values: list[Any], of: str) -> bytes:
    source = f"unnest($1::{of}[]) with ordinality as given (value, place) order by place"
    return await encoded(owner, PARQUET, [known], source, values)


async def test_every_text_is_found_exactly_and_null_is_not_empty(owner: asyncpg.Connection) -> None:
    for texts in (TEXTS, [None, *TEXTS, None], ["", None], [None], [""], []):
        assert cells(await written(owner, column("text"), texts, "text")) == texts


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TRICKY = st.lists(st.sampled_from(['"', ",", "\n", "\r", "\\", "\\.", "\ufeff", "N", " ", "é"])).map("".join)


@DATABASE
@given(st.lists(st.none() | st.text(CHARACTERS) | TRICKY, max_size=40))
async def test_whatever_the_text_it_is_found_exactly(owner: asyncpg.Connection, texts: list[str | None]) -> None:
    assert cells(await written(owner, column("text"), texts, "text")) == texts


@DATABASE
@given(st.lists(st.none() | st.decimals(Decimal("-999999999999.999999"), Decimal("999999999999.999999"), places=6)))
async def test_decimals_are_decimals_of_their_columns_precision(
    owner: asyncpg.Connection, numbers: list[Decimal | None]
) -> None:
    content = await written(owner, column("decimal", digits=(18, 6)), numbers, "numeric")
    assert table(content).schema.field("cell").type == pa.decimal128(18, 6)
    assert cells(content) == numbers


async def test_very_large_and_very_small_decimals_are_exact(owner: asyncpg.Connection) -> None:
    numbers = [Decimal(f"{sign}{number}") for sign in ("", "-") for number in ("9" * 32 + ".999999", "0.000001", "0")]
    assert cells(await written(owner, column("decimal"), numbers, "numeric")) == numbers


@pytest.mark.parametrize("number", ["1234567890123.5", "0.0000001", "NaN", "Infinity"])
async def test_number_that_does_not_fit_its_column_fails_the_export_and_is_never_rounded(
    owner: asyncpg.Connection, number: str
) -> None:
    with pytest.raises(pa.ArrowInvalid):
        await written(owner, column("decimal", digits=(18, 6)), [Decimal(number)], "numeric")


@DATABASE
@given(st.lists(st.none() | st.datetimes(timezones=st.just(dt.UTC))))
async def test_times_are_kept_to_the_microsecond_in_utc(
    owner: asyncpg.Connection, times: list[dt.datetime | None]
) -> None:
    content = await written(owner, column("timestamp"), times, "timestamptz")
    assert table(content).schema.field("cell").type == pa.timestamp("us", tz="UTC")
    assert cells(content) == times


async def test_other_types_are_what_they_are(owner: asyncpg.Connection) -> None:
    whole = [0, None, 2**53 + 1, 2**63 - 1, -(2**63)]
    assert cells(await written(owner, column("integer"), whole, "bigint")) == whole
    assert cells(await written(owner, column("boolean"), [True, None, False], "boolean")) == [True, None, False]
    uuid = "01a20923-7293-733e-948e-71b991776457"
    assert cells(await written(owner, column("uuid"), [uuid, None], "uuid")) == [uuid, None]
    said = ['{"a": ",\\"\\n", "b": 1.50}', None, '""', "null", "[]"]
    assert cells(await written(owner, column("json"), said, "jsonb")) == said


async def test_file_says_what_it_is(owner: asyncpg.Connection) -> None:
    found = table(await written(owner, column("text"), ["a"], "text")).schema
    assert found.metadata == {
        b"dataset": b"things",
        b"description": b"What <there> is & was.",
        b"snapshot_at": b"2026-01-31T12:30:00+00:00",
    }
    assert found.field("cell").metadata == {b"description": b"for the test"}


@pytest.mark.parametrize("name", sorted(DATASETS))
async def test_decimals_of_the_catalogue_have_the_digits_that_postgres_says(
    name: str, owner: asyncpg.Connection
) -> None:
    decimals = [known for known in DATASETS[name].columns if known.type == "decimal"]
    selected = ", ".join(f"{known.sql} as {known.name}" for known in decimals)
    await owner.execute(f"create temp table declared as select {selected} from {DATASETS[name].source} limit 0")
    declared = await owner.fetch(
        "select attname, atttypmod from pg_attribute where attrelid = 'declared'::regclass and attnum > 0"
    )
    # a computed column declares no precision, so it has the greatest
    said = {record[0]: (record[1] - 4 >> 16, record[1] - 4 & 0xFFFF) for record in declared if record[1] >= 0}
    assert {known.name: known.digits for known in decimals} == {known.name: (38, 6) for known in decimals} | said


CELL = st.none() | TRICKY


def line_of(row: list[str | None]) -> str:
    return ",".join("" if cell is None else '"' + cell.replace('"', '""') + '"' for cell in row) + "\n"


@given(st.lists(st.lists(CELL, min_size=2, max_size=2)), st.integers(0, 60))
@example([['"\n"', "\n"]], 3)
def test_rows_end_where_no_quote_is_open(rows: list[list[str | None]], cut: int) -> None:
    text = "".join(map(line_of, rows)).encode()[:cut]
    ends = [0]
    for row in rows:
        ends.append(ends[-1] + len(line_of(row).encode()))
    assert end_of_rows(text) == max(end for end in ends if end <= len(text))


async def made(pieces: Iterator[bytes], rows: int, columns: list[Column], **sizes: int) -> bytes:
    file = File()
    encoder = ParquetEncoder(columns, Options(), file.write, ABOUT, **sizes)
    await encoder.begin()
    for piece in pieces:
        await encoder.write(piece)
    await encoder.finish(rows)
    return file.content


PAIR = [column("text"), Column("other", "integer", "other", "")]


async def test_row_groups_are_bounded_and_cuts_change_nothing() -> None:
    sizes = {"block_bytes": 16_000, "group_bytes": 100_000}
    texts = [TEXTS[n % (len(TEXTS) - 1)] for n in range(30_000)]
    data = "".join(f"{line_of([text])[:-1]},{n}\n" for n, text in enumerate(texts)).encode()
    files = {
        size: await made((data[at : at + size] for at in range(0, len(data), size)), 30_000, PAIR, **sizes)
        for size in (997, 16_000, len(data))
    }
    for content in files.values():
        assert cells(content) == texts
        assert table(content).column("other").to_pylist() == list(range(30_000))
    metadata = pq.ParquetFile(io.BytesIO(files[997])).metadata
    assert metadata.num_row_groups > 5
    assert max(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)) < 2 * 100_000


@pytest.mark.parametrize("rows", [65_535, 65_536, 65_537, 1_048_576])
async def test_no_row_is_lost_at_the_edges_where_others_lose_some(rows: int) -> None:
    block = 4096
    pieces = ("".join(f'"x",{n}\n' for n in range(at, min(at + block, rows))).encode() for at in range(0, rows, block))
    found = pl.read_parquet(io.BytesIO(await made(pieces, rows, PAIR))).get_column("other")
    assert (found.len(), found.min(), found.max(), found.n_unique()) == (rows, 0, rows - 1, rows)


@pytest.mark.parametrize(
    ("data", "rows"), [(b'"a",1\n', 2), (b'"a",1\n', 0), (b'"a",1\n"b",2', 2), (b'"a",1\n"b\n', 1)]
)
async def test_rows_that_are_missing_or_cut_are_never_a_file(data: bytes, rows: int) -> None:
    with pytest.raises(RuntimeError):
        await made(iter([data]), rows, PAIR)


def test_memory_does_not_grow_with_the_rows() -> None:
    row = r'1234567,"a name of some length, and more of it"\n'
    few, many = memory_for("parquet", row, 400_000), memory_for("parquet", row, 2_000_000)
    assert many < 192 * 2**20
    assert many - few < 32 * 2**20


async def test_event_loop_is_not_blocked_by_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    read = ParquetEncoder._table

    def seen(self: ParquetEncoder, rows: bytes) -> Any:
        threads.add(threading.current_thread())
        return read(self, rows)

    monkeypatch.setattr(ParquetEncoder, "_table", seen)
    await made(iter([b'"a",1\n' * 300_000]), 300_000, PAIR)
    assert threads
    assert threading.main_thread() not in threads


async def test_full_disk_stops_the_copy_at_once(owner: asyncpg.Connection) -> None:
    pieces = 0

    async def full(_: bytes) -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            raise OSError("No space left on device")

    encoder = ParquetEncoder([column("integer")], Options(), full, ABOUT, group_bytes=100_000)
    await encoder.begin()
    endless = "select generate_series(1, 1000000000000) as cell"
    with pytest.raises(OSError, match="No space"):
        await owner.copy_from_query(endless, output=encoder.write, format="csv")
    assert await owner.fetchval("select 1") == 1


async def test_cancel_in_the_middle_leaves_nothing_behind(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, store: Any
) -> None:
    # more than a row group, which is 16 MiB, and so incompressible that the first group reaches the store
    await many_items(owner, 25_000)
    await owner.execute("update items set description = repeat(md5(id::text), 30)")
    gated = GatedStore(store)
    async with work(store=gated):
        export_id = await submitted(viewer, format="parquet")
        await gated.reached.wait()
        assert await copies(owner) == 1
        await viewer.post(f"{JOBS}/{export_id}/cancel")
        await reaches(viewer, export_id, "canceled")

        async def stopped() -> bool:
            return await copies(owner) == 0

        await eventually(stopped)
        gated.gate.set()
        assert (await done(viewer, format="parquet"))["result"]["rows"] == 25_000


async def test_every_value_of_every_dataset_is_found(admin: UserClient, owner: asyncpg.Connection, work: Work) -> None:
    await fill(owner, admin.user_id)
    stored = {name: await records(owner, name) for name in DATASETS}
    async with work():
        jobs = {name: await done(admin, name, format="parquet", filter=everything(name)) for name in DATASETS}
    for name, job in jobs.items():
        answer = await admin.get(f"{JOBS}/{job['id']}/download")
        assert answer.headers["Content-Type"] == PARQUET.media_type
        found = table(answer.content)
        assert found.schema.metadata[b"dataset"] == name.encode()
        count = len(stored[name])
        # the audit log has further entries, made by the exports themselves
        assert len(found) == job["result"]["rows"] >= count > 0
        assert len(found) == count or name == "audit_log"
        rows = [tuple(row.values()) for row in found.to_pylist()]
        assert rows[:count] == stored[name]
        assert pl.read_parquet(io.BytesIO(answer.content)).rows() == rows


async def test_instance_without_the_library_says_so_and_refuses(
    viewer: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    answer = await viewer.post(JOBS, json={"dataset": "items", "format": "parquet"})
    assert answer.status_code == 422, answer.text
    assert "erp-service[parquet]" in answer.text
    assert answer.json()["errors"][0]["pointer"] == "/format"
