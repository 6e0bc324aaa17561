"""The options of CSV for programs that cannot read the default, and invalid combinations."""

import csv
import io
import json
from typing import Any

import asyncpg
import httpx
import polars as pl
import pytest

from erp_service.exports.formats.csv_options import CsvOptions, csv_option_faults
from erp_service.exports.planning.selection import Spec
from erp_service.formulas import FORMULA_STARTS
from erp_service.registry.datasets import FilterValue
from erp_service.settings import Settings
from tests.exports.data import NASTY, fill
from tests.exports.formats.text_files import downloaded, written
from tests.exports.jobs import JOBS, done
from tests.support.psql import Psql
from tests.support.workers import Work

COLUMNS = ["id", "sku", "name", "reorder_point", "description"]


@pytest.fixture
async def filled(owner: asyncpg.Connection, user: int) -> None:
    await fill(owner, user, movements=1)


def spec(**options: Any) -> Spec:
    every: dict[str, FilterValue] = {"include_deleted": True}
    return Spec(columns=COLUMNS, filter=every, csv=CsvOptions(**options))


def rows_of(file: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.decode(), newline=""), delimiter=delimiter, strict=True))


async def test_the_word_tab_is_a_tab(filled: None, settings: Settings) -> None:
    """A client that was generated from the document has no name for a tab of its own."""
    as_word = await written(settings, "items", spec(delimiter="tab"), "csv")
    assert as_word == await written(settings, "items", spec(delimiter="\t"), "csv")
    assert rows_of(as_word, "\t")[0] == rows_of(await written(settings, "items", spec(), "csv"))[0]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
async def test_delimiters_change_nothing_but_themselves(filled: None, settings: Settings, delimiter: str) -> None:
    usual = rows_of(await written(settings, "items", spec(), "csv"))
    assert rows_of(await written(settings, "items", spec(delimiter=delimiter), "csv"), delimiter) == usual
    assert usual[0] == COLUMNS


async def test_decimal_comma_is_in_numbers_alone(filled: None, settings: Settings) -> None:
    usual = rows_of(await written(settings, "items", spec(), "csv"))
    found = rows_of(await written(settings, "items", spec(decimal_comma=True, delimiter=";"), "csv"), ";")
    assert found == [[*row[:3], row[3].replace(".", ","), row[4]] for row in usual]
    assert [row[3] for row in found[1:4]] == ["0,125", "0,25", "0,375"]
    # with a comma as delimiter such a number is quoted
    file = await written(settings, "items", spec(decimal_comma=True), "csv")
    assert b'"0,125"' in file
    assert rows_of(file) == found
    frame = pl.read_csv(io.BytesIO(await written(settings, "items", spec(decimal_comma=True, delimiter=";"), "csv")),
                        separator=";", decimal_comma=True, schema_overrides={"sku": pl.String})  # fmt: skip
    assert frame["reorder_point"].to_list() == [n / 8 for n in range(1, len(frame) + 1)]


async def test_header_and_bom_stand_where_they_are_asked_for(filled: None, settings: Settings) -> None:
    usual = await written(settings, "items", spec(), "csv")
    headless = usual.split(b"\n", 1)[1]
    assert await written(settings, "items", spec(header=False), "csv") == headless
    assert await written(settings, "items", spec(bom=True), "csv") == b"\xef\xbb\xbf" + usual
    assert await written(settings, "items", spec(bom=True, header=False), "csv") == b"\xef\xbb\xbf" + headless


async def test_null_has_its_own_text_and_whatever_looks_like_it_is_quoted(filled: None, settings: Settings) -> None:
    """NULL and \\N are among the descriptions, too, as texts."""
    usual = pl.read_csv(io.BytesIO(await written(settings, "items", spec(), "csv")), infer_schema=False)
    for null in ("NULL", "\\N", "-2", "null", "n/a", " "):
        file = await written(settings, "items", spec(null=null), "csv")
        # two descriptions are null, in the last column
        assert file.count(b"," + null.encode() + b"\n") == usual["description"].null_count() == 2
        if null in NASTY:
            assert f'"{null}"'.encode() in file
        assert [row[4] or null for row in rows_of(file)][1:] == [
            null if text is None else text or null for text in usual["description"]
        ]


async def test_crlf_ends_rows_and_leaves_the_line_ends_of_texts(filled: None, settings: Settings) -> None:
    usual = await written(settings, "items", spec(), "csv")
    found = await written(settings, "items", spec(line_ending="crlf"), "csv")
    assert found.startswith(b"id,sku,name,reorder_point,description\r\n")
    assert rows_of(found) == rows_of(usual)
    assert b"two\nlines" in found
    assert found.count(b"\r\n") == usual.count(b"\r\n") + len(rows_of(usual))


async def test_formula_guard_disarms_every_cell_a_spreadsheet_would_run(
    filled: None, settings: Settings, owner: asyncpg.Connection
) -> None:
    for at, start in enumerate(FORMULA_STARTS):
        await owner.execute(
            "insert into items (sku, name, unit, reorder_point) values ($1, $2, 'x', 0)", f"{start}{at}", f"{start}cmd"
        )
    usual = rows_of(await written(settings, "items", spec(), "csv"))
    guarded = rows_of(await written(settings, "items", spec(formula_guard=True), "csv"))
    assert len(FORMULA_STARTS) == 12
    texts = [1, 2, 4]
    for plain, found in zip(usual[1:], guarded[1:], strict=True):
        for at in texts:
            assert found[at] == ("'" + plain[at] if plain[at].startswith(tuple(FORMULA_STARTS)) else plain[at])
            assert not found[at].startswith(tuple(FORMULA_STARTS))
        assert (found[0], found[3]) == (plain[0], plain[3])
    assert any(cell.startswith("'=") for row in guarded for cell in row)


async def test_formula_behind_a_byte_order_mark_is_guarded_in_a_file_without_a_header(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    """A reader takes the BOM of the first cell for the file's, and the rest of the cell for a formula."""
    await owner.execute("insert into items (sku, name, unit, reorder_point) values ('a', $1, 'x', 0)", "\ufeff=1+1")
    asked = Spec(columns=["name"], csv=CsvOptions(formula_guard=True, header=False))
    file = await written(settings, "items", asked, "csv")
    assert file.decode("utf-8-sig") == "'\ufeff=1+1\n"


async def test_formula_guard_leaves_negative_numbers_alone(
    settings: Settings, owner: asyncpg.Connection, user: int
) -> None:
    await fill(owner, user, movements=5)
    guarded = Spec(columns=["quantity"], csv=CsvOptions(formula_guard=True))
    assert rows_of(await written(settings, "stock_movements", guarded, "csv"))[1] == ["-0.609375"]


async def test_options_are_part_of_what_is_asked_for(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, psql: Psql
) -> None:
    """Other options make another job, explicit defaults do not, and a retry keeps them."""
    plain = await viewer.post(JOBS, json={"dataset": "locations"})
    same = await viewer.post(JOBS, json={"dataset": "locations", "csv": {"delimiter": ","}})
    other = await viewer.post(JOBS, json={"dataset": "locations", "csv": {"delimiter": ";", "header": False}})
    assert same.json()["id"] == plain.json()["id"] != other.json()["id"]
    assert same.json()["deduplicated"] is True
    kept = await owner.fetchval("select spec from export_jobs where id = $1::text::uuid", other.json()["id"])
    assert json.loads(kept) == {"csv": {"delimiter": ";", "header": False}}
    await owner.execute("insert into locations (code, name, location_type) values ('A', 'a;b', 'BIN')")
    async with work():
        job = await done(viewer, "locations", columns=["code", "name"], csv={"delimiter": ";", "header": False})
        assert await downloaded(viewer, job) == b'A;"a;b"\n'
        assert job["result"]["media_type"] == "text/csv; charset=utf-8; header=absent"


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"csv": {"delimiter": ":"}}, ["/csv/delimiter"]),
    ({"csv": {"null": "a,b"}}, ["/csv/null"]),
    ({"csv": {"null": "a;b", "delimiter": ";"}}, ["/csv/null"]),
    ({"csv": {"null": '"'}}, ["/csv/null"]),
    ({"csv": {"null": "a\nb"}}, ["/csv/null"]),
    ({"csv": {"null": "\t", "delimiter": "\t"}}, ["/csv/null"]),
    ({"csv": {"null": "x" * 21}}, ["/csv/null"]),
    ({"csv": {"null": "=1", "formula_guard": True}}, ["/csv/null"]),
    ({"csv": {"null": "\ufeff=1", "formula_guard": True}}, ["/csv/null"]),
    ({"csv": {"line_ending": "cr", "quote": "'"}}, ["/csv/line_ending", "/csv/quote"]),
    ({"csv": {"header": "no"}}, ["/csv/header"]),
    ({"format": "jsonl", "csv": {"header": False}}, ["/csv"]),
    ({"format": "xlsx", "csv": {}, "compression": "gzip"}, ["/compression", "/csv"]),
    ({"format": "parquet", "compression": "zstd"}, ["/compression"]),
    ({"csv": {"null": ","}, "columns": ["x"], "sort": "y"}, ["/columns/0", "/csv/null", "/sort"]),
]  # fmt: skip


async def test_what_cannot_be_read_back_is_refused_by_its_field(viewer: httpx.AsyncClient) -> None:
    for body, pointers in REFUSED:
        answer = await viewer.post(JOBS, json={"dataset": "items", **body})
        assert answer.status_code == 422, body
        assert sorted(fault["pointer"] for fault in answer.json()["errors"]) == sorted(pointers)


def test_what_may_stand_for_null() -> None:
    for null in ("", "NULL", "\\N", "null", "-", "'", "$1", "{}", "%s", "x" * 20, "žádná"):
        assert not list(csv_option_faults(CsvOptions(null=null))), null
    assert not list(csv_option_faults(CsvOptions(null="a,b", delimiter=";")))


async def test_null_texts_are_taken_as_they_are(filled: None, settings: Settings) -> None:
    """It is the only text of a caller in a COPY statement: quotes and dollar signs in it are literal."""
    for null in ("'", "''", "\\'", "$1", "')--", "E'x", "{}%s"):
        asked = Spec(columns=COLUMNS, filter={"status": "ACTIVE", "q": "PLAIN"}, csv=CsvOptions(null=null))
        assert (await written(settings, "items", asked, "csv")).endswith(b"," + null.encode() + b"\n"), null
