"""CSV and JSON Lines, read back with the libraries that users have: every row and every value exactly."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats.base import About
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.exports.formats.registry import FORMATS
from erp_service.exports.formats.text_values import as_text
from erp_service.exports.planning.selection import Spec
from erp_service.registry.datasets import Column
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.exports.data import NASTY, copies, fill, many_items
from tests.exports.formats.text_files import downloaded, written
from tests.exports.jobs import JOBS, done, reaches, submitted
from tests.support.workers import Work

AWKWARD = [*NASTY, " ", "a\u0000b".replace("\u0000", ""), "\t", "\n", '"', '""', ",", ";", "|", "é" * 300, "x" * 70_000]
DECIMALS = ["0", "0.000001", "-0.000001", "999999999999.999999", "-999999999999.999999", "12.5", "100", "1234567890.1"]


Expected = list[dict[str, Any]]


@pytest.fixture
async def expected(owner: asyncpg.Connection, user: int) -> Expected:
    """Movements whose notes are every awkward text, and one null, with their values by column as the contract has them.

    Read with asyncpg, and so on another way than COPY's."""
    await fill(owner, user, movements=40)
    await owner.execute("alter table stock_ledger disable trigger stock_ledger_append_only")
    await owner.execute("delete from stock_ledger")
    for at, text in enumerate([*AWKWARD, None]):
        await owner.execute(
            "insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value,"
            " unit_cost, on_hand_after, item_on_hand_after, value_after, occurred_at, notes, reference_no, metadata)"
            " select id, $1, 1 + $1 % 20, 1 + $1 % 7, 'ADJUSTMENT', $2, $3, $4, 0, 0, 0, $5, $6, $7,"
            " jsonb_build_object('note', $6::text) from stock_transactions limit 1",
            at + 1,
            Decimal(DECIMALS[at % len(DECIMALS)]),
            Decimal(DECIMALS[at % len(DECIMALS)]).quantize(Decimal("0.0001")),
            None if at % 3 else Decimal("0.0100"),
            datetime(2020, 2, 29, 23, 59, 59, at, UTC),
            text,
            text and text[:40],
        )
    kinds = {column.name: column.type for column in DATASETS["stock_movements"].columns}
    names = ", ".join(f"{c.sql} as {c.name}" for c in DATASETS["stock_movements"].columns)
    rows = await owner.fetch(f"select {names} from {DATASETS['stock_movements'].source} order by e.id")
    return [{name: plain(kinds[name], value) for name, value in row.items()} for row in rows]


def plain(kind: str, value: Any) -> Any:
    if value is None or kind in ("text", "integer", "boolean"):
        return value
    if kind == "decimal":
        exact = f"{value:f}"
        return exact.rstrip("0").rstrip(".") if "." in exact else exact
    if kind == "timestamp":
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return json.loads(value) if kind == "json" else str(value)


def as_cells(rows: Expected) -> list[dict[str, str]]:
    """The text of every value as Python's csv module returns it, which does not distinguish null from an empty text."""

    def cell(name: str, value: Any) -> str:
        return "" if value is None else str(value)

    return [{name: cell(name, value) for name, value in row.items()} for row in rows]


async def test_csv_module_reads_every_value_exactly(settings: Settings, expected: Expected) -> None:
    text = (await written(settings, "stock_movements", Spec(), "csv")).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert len(rows) == len(expected) == len(AWKWARD) + 1
    assert [{**row, "metadata": str(json.loads(row["metadata"]))} for row in rows] == as_cells(expected)


async def test_polars_reads_every_value_of_csv_exactly_and_tells_empty_from_null(
    settings: Settings, expected: Expected
) -> None:
    file = await written(settings, "stock_movements", Spec(), "csv")
    frame = pl.read_csv(io.BytesIO(file), infer_schema=False)
    assert frame["notes"].to_list() == [row["notes"] for row in expected]
    assert "" in frame["notes"].to_list()
    for name in ("quantity", "value", "unit_cost", "occurred_at", "sku", "transaction_id"):
        assert frame[name].to_list() == [row[name] for row in expected], name


async def test_json_lines_hold_every_value_exactly(settings: Settings, expected: Expected) -> None:
    """By the standard library and polars: amounts and quantities are strings, so that nobody reads a binary float."""
    file = await written(settings, "stock_movements", Spec(), "jsonl")
    lines = file.split(b"\n")
    assert lines.pop() == b""
    found = [json.loads(line) for line in lines]
    assert found == expected
    assert all(list(row) == [c.name for c in DATASETS["stock_movements"].columns] for row in found)
    kinds: dict[str, Any] = {c.name: pl.Int64 if c.type == "integer" else pl.String for c in
                             DATASETS["stock_movements"].columns if c.type != "json"}  # fmt: skip
    frame = pl.read_ndjson(io.BytesIO(file), schema={**kinds, "metadata": pl.Struct({"note": pl.String})})
    assert frame.select(list(kinds)).to_dicts() == [{name: row[name] for name in kinds} for row in expected]
    assert [row["note"] for row in frame["metadata"].to_list()] == [row["notes"] for row in expected]


async def test_every_dataset_is_json_with_the_types_of_the_contract(
    settings: Settings, owner: asyncpg.Connection, user: int
) -> None:
    await fill(owner, user)
    of_type: dict[str, tuple[type, ...]] = {
        "integer": (int,), "boolean": (bool,), "json": (dict, list), "decimal": (str,), "text": (str,), "uuid": (str,),
        "timestamp": (str,),
    }  # fmt: skip
    for name, dataset in DATASETS.items():
        lines = (await written(settings, name, Spec(), "jsonl")).splitlines()
        tables = [json.loads(line) for line in (await written(settings, name, Spec(), "jsonl")).split(b"\n")[:-1]]
        assert tables, name
        assert len(lines) == len(tables)
        for column in dataset.columns:
            values = [row[column.name] for row in tables]
            assert all(value is None or type(value) in of_type[column.type] for value in values), column


async def test_empty_exports_are_a_header_or_nothing(settings: Settings) -> None:
    assert await written(settings, "items", Spec(columns=["id", "sku"]), "csv") == b"id,sku\n"
    assert await written(settings, "items", Spec(columns=["id", "sku"]), "jsonl") == b""


# every character that Postgres can store: no NUL, no surrogate
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
options = st.builds(
    CsvOptions,
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    header=st.booleans(),
    bom=st.booleans(),
    null=st.sampled_from(["", "NULL", "\\N", "-", "n/a"]),
    line_ending=st.sampled_from(["lf", "crlf"]),
)


class Rendered:
    """Copies texts with a format's own select list and encoder, on one connection."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def __call__(self, given_: list[str | None], format_: str, chosen: CsvOptions, cut: int) -> bytes:
        column, known = Column("cell", "text", "cell", ""), FORMATS[format_]
        held = bytearray()

        async def sink(data: bytes) -> None:
            held.extend(data)

        encoder = known.encoder([column], chosen, sink, About("cells", "", datetime.now(UTC)))

        async def in_cuts(data: bytes) -> None:
            for at in range(0, len(data), cut):
                await encoder.write(data[at : at + cut])

        await encoder.begin()
        sql = f"select {known.select([column], chosen)} from unnest($1::text[]) with ordinality u (cell, n) order by n"
        tag = await self._connection.copy_from_query(sql, given_, output=in_cuts, **known.copy(chosen))
        await encoder.finish(int(tag.split()[1]))
        return bytes(held)


@pytest.fixture(scope="module")
async def rendered(cluster: Cluster) -> AsyncIterator[Rendered]:
    connection = await asyncpg.connect(cluster.owner_url("postgres").replace("?", "?user=postgres&", 1))
    yield Rendered(connection)
    await connection.close()


@given(cells=st.lists(st.none() | texts, max_size=5), chosen=options, cut=st.integers(1, 20))
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_comes_back_from_csv_with_any_options(
    rendered: Rendered, cells: list[str | None], chosen: CsvOptions, cut: int
) -> None:
    file = await rendered(cells, "csv", chosen, cut)
    assert file.startswith(b"\xef\xbb\xbf") == chosen.bom or (not chosen.bom and not chosen.header)
    rows = parsed(file.decode().removeprefix("\ufeff" if chosen.bom else ""), chosen)
    if chosen.header:
        assert rows.pop(0) == "cell"
    assert rows == cells


def parsed(text: str, chosen: CsvOptions) -> list[str | None]:
    """Parses one column by RFC 4180; the text for null means null unless it is quoted."""
    end = "\r\n" if chosen.line_ending == "crlf" else "\n"
    cells: list[str | None] = []
    while text:
        if text.startswith('"'):
            at = 1
            while text[at] != '"' or text[at + 1] == '"':
                at += 2 if text[at] == '"' else 1
            cells.append(text[1:at].replace('""', '"'))
            text = text[at + 1 :]
        else:
            raw, text = text[: (stop := text.index(end))], text[stop:]
            assert '"' not in raw
            cells.append(None if raw == chosen.null else raw)
        assert text.startswith(end)
        text = text.removeprefix(end)
    return cells


@given(cells=st.lists(st.none() | texts, max_size=5), cut=st.integers(1, 20))
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_comes_back_from_json_lines(rendered: Rendered, cells: list[str | None], cut: int) -> None:
    file = await rendered(cells, "jsonl", CsvOptions(), cut)
    assert [json.loads(line)["cell"] for line in file.split(b"\n")[:-1]] == cells


def test_the_csv_of_the_contract_is_the_plain_text_of_each_column() -> None:
    column = Column("quantity", "decimal", "e.quantity", "")
    assert FORMATS["csv"].select([column], CsvOptions()) == f"{as_text(column)} as quantity"


async def test_no_row_is_missing_at_the_65_535_row_edge(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    """Odoo's exports lost the rows after 65,535."""
    await many_items(owner, 65_534)
    async with work():
        for count in (65_534, 65_535, 65_536, 65_537):
            for format_ in ("csv", "jsonl"):
                job = await done(viewer, "items", format=format_, columns=["id"])
                lines = (await downloaded(viewer, job)).splitlines()
                assert job["result"]["rows"] == count == len(lines) - (format_ == "csv")
            await owner.execute("insert into items (sku, name, unit) values (gen_random_uuid()::text, 'one more', 'x')")


async def test_a_cut_file_never_looks_whole(viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work) -> None:
    """Superset's CSV ended where the query failed. Here row 50,000 fails in the server, after megabytes of output."""
    await many_items(owner, 60_000)
    await owner.execute("create function explode(text) returns text language plpgsql as $$ begin"
                        " if $1 = 'SKU-50000' then raise exception 'no'; end if; return $1; end $$")  # fmt: skip
    await owner.execute("alter table items rename to items_really")
    await owner.execute(
        "create view items as select id, explode(sku) as sku, name, unit, decimals, units, barcode, external_id,"
        " status, description, reorder_point, metadata, created_at, updated_at, deleted_at from items_really"
    )
    await owner.execute("grant select on items to public")
    async with work():
        for more in ({}, {"format": "jsonl"}, {"compression": "gzip"}):
            export_id = await submitted(viewer, "items", **more)
            job = await reaches(viewer, export_id, "failed", "succeeded")
            assert (job["status"], job["result"]) == ("failed", None)
            assert (await viewer.get(f"{JOBS}/{export_id}/download")).status_code == 409
    assert await copies(owner) == 0
