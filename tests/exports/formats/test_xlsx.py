"""XLSX files, read back with openpyxl, and with polars, which uses calamine."""

import datetime as dt
import io
import threading
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import asyncpg
import httpx
import openpyxl
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.formats.base import FileOptions, Options, Times
from erp_service.exports.formats.xlsx import MOST_ROWS, XLSX, XlsxEncoder, letters
from erp_service.exports.formats.zip_stream import Zip
from erp_service.exports.problems import CellTooLong, TooManyRows
from erp_service.registry.datasets import Column
from tests.exports.data import NASTY, fill
from tests.exports.formats.encoded import ABOUT, File, encoded, everything, memory_for, records
from tests.exports.jobs import JOBS, done
from tests.support.clients import UserClient
from tests.support.workers import Work

DATABASE = examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHEET = "xl/worksheets/sheet1.xml"
TEXTS = [
    *NASTY,
    "_x0041_",
    "_x0041_x0042_",
    "_x0041\u0001",
    "\u0001_x0041_",
    "<b>&amp;]]></b> &#10;",
    "\u0085\u2029 \ufffe\uffff",
    "\n",
    "\r\n",
    "  ",
    "=cmd|' /C calc'!A0",
]


def column(type_: Any, sql: str = "value", name: str = "cell") -> Column:
    return Column(name, type_, sql, "for the test")


def sheet(content: bytes) -> Any:
    return openpyxl.load_workbook(io.BytesIO(content)).active


def cells(content: bytes) -> list[Any]:
    """The values of the first column. openpyxl leaves it to the caller to decode `_x0001_` (ECMA-376, 22.9.2.19)."""
    found = [row[0] for row in sheet(content).iter_rows(min_row=2, max_col=1, values_only=True)]
    return [unescape(value) if isinstance(value, str) else value for value in found]


def seen_by_polars(content: bytes) -> list[Any]:
    return pl.read_excel(io.BytesIO(content), drop_empty_rows=False).to_series().to_list()


def rows_of(content: bytes) -> str:
    return zipfile.ZipFile(io.BytesIO(content)).read(SHEET).decode().partition("</row>")[2]


async def written(owner: asyncpg.Connection, type_: Any, values: list[Any], of: str) -> bytes:
    source = f"unnest($1::{of}[]) with ordinality as given (value, place) order by place"
    return await encoded(owner, XLSX, [column(type_)], source, values)


async def test_every_text_is_found_exactly(owner: asyncpg.Connection) -> None:
    content = await written(owner, "text", TEXTS, "text")
    assert cells(content) == TEXTS
    # calamine does not distinguish the two noncharacters from a text that looks like their escapes
    known = [text.replace("\ufffe", "_xFFFE_").replace("\uffff", "_xFFFF_") for text in TEXTS]
    assert seen_by_polars(content) == known


PIECES = st.sampled_from(
    ["_", "x", "_x", "0041", "000A", "_x005F_", "\u0001", "\u001f", "\n", "\r", "&", "<", "]]>", "😀"]
)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


@DATABASE
@given(st.lists(st.text(CHARACTERS) | st.lists(PIECES).map("".join), min_size=1, max_size=40))
async def test_whatever_the_text_it_is_found_exactly(owner: asyncpg.Connection, texts: list[str]) -> None:
    assert cells(await written(owner, "text", texts, "text")) == texts


@DATABASE
@given(
    st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=6) | st.decimals(-1, 1, places=18), min_size=1)
)
async def test_decimals_are_numbers_if_excel_can_hold_them_and_exact_in_any_case(
    owner: asyncpg.Connection, numbers: list[Decimal]
) -> None:
    for number, cell in zip(numbers, cells(await written(owner, "decimal", numbers, "numeric")), strict=True):
        digits = "".join(map(str, number.as_tuple().digits)).strip("0")
        assert isinstance(cell, str) == (len(digits) > 15)
        assert Decimal(str(cell)) == number


NUMBERS = {
    "0.1": 0.1,
    "-0.000001": -0.000001,
    "1e-15": 1e-15,
    "123456789012.345": 123456789012.345,
    "1234567890123.456": "1234567890123.456",
    "99999999999999.9999": "99999999999999.9999",
    "999999999999.999999": "999999999999.999999",
    "-123456789.123456": -123456789.123456,
    "100000000000000000000": 10**20,
    "1e301": "1" + 301 * "0",
    "NaN": "NaN",
    "-Infinity": "-Infinity",
}


async def test_no_number_is_changed_silently(owner: asyncpg.Connection) -> None:
    found = cells(await written(owner, "decimal", [Decimal(number) for number in NUMBERS], "numeric"))
    assert found == list(NUMBERS.values())
    whole = [10**15 - 1, 1 - 10**15, 10**15, -(10**15), 2**53 + 1, 2**63 - 1, -(2**63), 0]
    held = [10**15 - 1, 1 - 10**15, *map(str, whole[2:-1]), 0]
    assert cells(await written(owner, "integer", whole, "bigint")) == held


naive = partial(dt.datetime, tzinfo=None)  # spreadsheets know no time zone
TIMES = {
    "1900-03-01 00:00:00+00": naive(1900, 3, 1),
    "1900-02-28 23:59:59.999999+00": "1900-02-28T23:59:59.999999Z",
    "1969-12-31 23:59:59.999+00": naive(1969, 12, 31, 23, 59, 59, 999000),
    "2020-02-29 23:59:59.5+00": naive(2020, 2, 29, 23, 59, 59, 500000),
    "2026-03-29 02:30:00+02": naive(2026, 3, 29, 0, 30),
    "9999-12-31 23:59:59.999+00": naive(9999, 12, 31, 23, 59, 59, 999000),
    "10000-01-01 00:00:00+00": "10000-01-01T00:00:00.000000Z",
    "infinity": "infinity",
    "-infinity": "-infinity",
}


async def test_times_are_dates_in_utc_or_else_say_what_they_are(owner: asyncpg.Connection) -> None:
    content = await encoded(
        owner,
        XLSX,
        [column("timestamp", "value::timestamptz")],
        "unnest($1::text[]) with ordinality as given (value, place) order by place",
        list(TIMES),
    )
    assert cells(content) == list(TIMES.values())
    assert sheet(content)["A2"].number_format == r"yyyy\-mm\-dd\ hh:mm:ss.000"
    only_dates = await written(owner, "timestamp", [dt.datetime(2020, 2, 29, 12, tzinfo=dt.UTC)], "timestamptz")
    assert seen_by_polars(only_dates) == [naive(2020, 2, 29, 12)]


async def test_last_microsecond_of_a_year_stays_in_its_year(owner: asyncpg.Connection) -> None:
    """Rounded to the nearest number, 23:59:59.999999 is shown as the next day, month and year."""
    last = dt.datetime(2025, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
    content = await written(owner, "timestamp", [last], "timestamptz")
    shown = naive(2025, 12, 31, 23, 59, 59, 999000)
    assert (cells(content), seen_by_polars(content)) == ([shown], [shown])


FIRST, LAST = naive(1900, 3, 1), naive(9999, 12, 31, 23, 59, 59, 999999)
LATE = st.builds(
    lambda day, microsecond: dt.datetime.combine(day, dt.time(23, 59, 59, 999000 + microsecond), dt.UTC),
    st.dates(dt.date(1900, 3, 1), dt.date(9999, 12, 31)),
    st.integers(0, 999),
)


@DATABASE
@given(st.lists(st.datetimes(FIRST, LAST, timezones=st.just(dt.UTC)) | LATE, min_size=1, max_size=100))
async def test_no_time_is_read_back_as_later_than_it_was(owner: asyncpg.Connection, times: list[dt.datetime]) -> None:
    """By none of the readers, and not more than the microseconds earlier."""
    content = await written(owner, "timestamp", times, "timestamptz")
    exact = [time.replace(microsecond=time.microsecond // 1000 * 1000, tzinfo=None) for time in times]
    assert cells(content) == exact
    # polars makes dates of a column of midnights
    assert [dt.datetime.fromisoformat(seen.isoformat()) for seen in seen_by_polars(content)] == exact


async def test_times_are_those_of_the_time_zone_of_the_options(owner: asyncpg.Connection) -> None:
    """The last hour of the year in UTC is the first of the next one in Berlin."""
    instants = ["2025-12-31 23:30:00.5+00", "2026-07-01 12:00:00+00", "1900-02-28 23:30:00+00", "10000-01-01 00:00+00"]
    file, options = File(), FileOptions(times=Times("Europe/Berlin"))
    encoder = XLSX.encoder([column("timestamp")], options, file.write, ABOUT)
    await encoder.begin()
    select = XLSX.select([column("timestamp", "value::timestamptz")], options)
    query = f"select {select} from unnest($1::text[]) with ordinality as given (value, place) order by place"
    tag = await owner.copy_from_query(query, instants, output=encoder.write, **XLSX.copy(options))
    await encoder.finish(int(tag.removeprefix("COPY ")))
    assert cells(file.content) == [
        naive(2026, 1, 1, 0, 30, 0, 500000),
        naive(2026, 7, 1, 14),
        naive(1900, 3, 1, 0, 30),
        "10000-01-01T00:00:00.000000Z",
    ]
    properties = openpyxl.load_workbook(io.BytesIO(file.content)).properties
    assert str(properties.description).endswith("All times are in Europe/Berlin.")


async def test_null_is_no_cell_and_an_empty_text_is_an_empty_text(owner: asyncpg.Connection) -> None:
    for type_, of in {"text": "text", "integer": "int", "decimal": "numeric", "timestamp": "timestamptz"}.items():
        assert "<c " not in rows_of(await written(owner, type_, [None], of))
    content = await written(owner, "text", ["", None, "last"], "text")
    assert cells(content) == ["", None, "last"]
    assert seen_by_polars(content) == ["", None, "last"]


async def test_other_types_are_what_they_are(owner: asyncpg.Connection) -> None:
    columns = [
        column("boolean", "true", "yes"),
        column("boolean", "false", "no"),
        column("boolean", "null::boolean", "neither"),
        column("uuid", "'01a20923-7293-733e-948e-71b991776457'::uuid", "id"),
        column("json", """'{"a": "<\\n>", "b": 1.50}'::jsonb""", "data"),
    ]
    found = [cell.value for cell in sheet(await encoded(owner, XLSX, columns, "(values (1)) v"))[2]]
    assert found == [True, False, None, "01a20923-7293-733e-948e-71b991776457", '{"a": "<\\n>", "b": 1.50}']


async def test_formula_stays_a_text_also_when_somebody_edits_the_cell(owner: asyncpg.Connection) -> None:
    for row in sheet(await written(owner, "text", ["=1+1", "=cmd|' /C calc'!A0", "+1", "@x"], "text")).iter_rows(
        min_row=2
    ):
        assert (row[0].data_type, row[0].number_format) == ("s", "@")


async def test_sheet_has_its_name_a_frozen_header_filters_and_widths(owner: asyncpg.Connection) -> None:
    dataset = DATASETS["stock_movements"]
    await fill(
        owner,
        await owner.fetchval(
            "insert into users (email, full_name, role, password_hash) values ('a@b.c', 'A', 'STAFF', '!') returning id"
        ),
        movements=3,
    )
    content = await encoded(owner, XLSX, dataset.columns, dataset.source)
    book = openpyxl.load_workbook(io.BytesIO(content))
    found = book.active
    assert found is not None
    assert (book.sheetnames, found.freeze_panes, found.auto_filter.ref) == (["things"], "A2", "A1:U4")
    assert found.print_title_rows == "$1:$1"
    header = found[1]
    assert [cell.value for cell in header] == [known.name for known in dataset.columns]
    assert all(cell.font.b for cell in header)
    assert all(found.column_dimensions[letters(n)].width >= 8 for n in range(1, 19))
    assert book.properties.title == "things"
    assert book.properties.description == "What <there> is & was. As of 2026-01-31T12:30:00Z. All times are in UTC."
    assert book.properties.created == naive(2026, 1, 31, 12, 30)


def row(value: int = 7) -> bytes:
    return b'<row r="\x03"><c r="A\x03"><v>%d</v></c></row>\n' % value


async def made(pieces: Iterator[bytes], rows: int) -> bytes:
    file = File()
    encoder = XlsxEncoder([column("integer")], Options(), file.write, ABOUT)
    await encoder.begin()
    for piece in pieces:
        await encoder.write(piece)
    await encoder.finish(rows)
    return file.content


async def test_same_rows_are_the_same_bytes_however_they_arrive() -> None:
    data = b"".join(map(row, range(30_000)))
    whole = await made(iter([data[:300_000], data[300_000:]]), 30_000)
    assert whole == await made(iter([data[:300_000], data[300_000:]]), 30_000)
    small = await made((data[at : at + 4099] for at in range(0, len(data), 4099)), 30_000)
    # the compressed bytes may differ, the contents do not
    assert rows_of(small) == rows_of(whole)
    assert seen_by_polars(small) == list(range(30_000))


@pytest.mark.parametrize("rows", [0, 65_535, 65_536, 65_537])
async def test_no_row_is_lost_at_the_edge_of_old_spreadsheets(rows: int) -> None:
    content = await made((row(n) for n in range(rows)), rows)
    if rows:
        assert seen_by_polars(content) == list(range(rows))
    assert f'<autoFilter ref="A1:A{rows + 1}"/>' in rows_of(content)


async def test_sheet_is_filled_to_its_last_row_and_one_more_is_refused_at_once() -> None:
    thousand = row() * 1000
    content = await made(iter([*[thousand] * 1048, row() * 575]), MOST_ROWS)
    assert rows_of(content).endswith(
        '<row r="1048576"><c r="A1048576"><v>7</v></c></row></sheetData><autoFilter ref="A1:A1048576"/></worksheet>'
    )
    with pytest.raises(TooManyRows):
        await made(iter([*[thousand] * 1048, row() * 576]), MOST_ROWS + 1)


async def test_rows_too_many_are_not_waited_for() -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1055):
            yield thousand
        pytest.fail("it goes on although the sheet is full")

    thousand = row() * 1000
    with pytest.raises(TooManyRows):
        await made(endless(), 10**9)


@pytest.mark.parametrize(("data", "rows"), [(row() * 3, 4), (row() * 3, 2), (row() * 3 + row()[:-1], 3)])
async def test_rows_that_are_missing_or_cut_are_never_a_file(data: bytes, rows: int) -> None:
    with pytest.raises(RuntimeError):
        await made(iter([data]), rows)


@pytest.mark.parametrize("longest", ["x" * 32_767, "é" * 32_767, "木" * 32_767, "😀" * 16_383 + "x"])
async def test_text_too_long_for_a_cell_is_refused_by_its_place_and_never_cut(
    owner: asyncpg.Connection, longest: str
) -> None:
    assert cells(await written(owner, "text", [longest, "a"], "text")) == [longest, "a"]
    with pytest.raises(CellTooLong, match="Row 3 has a text in cell"):
        await written(owner, "text", ["a", longest + "x", "b"], "text")


async def test_event_loop_is_not_blocked_by_what_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[tuple[int, int]] = []
    add = Zip.add

    def seen(self: Zip, content: bytes) -> bytes:
        threads.append((threading.get_ident(), len(content)))
        return add(self, content)

    monkeypatch.setattr(Zip, "add", seen)
    await made((row(n) for n in range(20_000)), 20_000)
    assert max(length for thread, length in threads if thread == threading.get_ident()) < 8_000
    assert sum(length for thread, length in threads if thread != threading.get_ident()) > 700_000


def test_memory_does_not_grow_with_the_rows() -> None:
    cell = r'<c r="A\x03" t="inlineStr"><is><t>a name of some length, and more of it</t></is></c>'
    row = rf'<row r="\x03">{cell * 5}</row>\n'
    assert memory_for("xlsx", row, 200_000) < 16 * 2**20


def test_columns_are_named_as_in_spreadsheets() -> None:
    assert [letters(n) for n in (1, 26, 27, 52, 702, 703, 16_384)] == ["A", "Z", "AA", "AZ", "ZZ", "AAA", "XFD"]


def same(cell: Any, value: Any) -> bool:
    """Whether the cell equals the stored value: times in whole milliseconds, uuids as texts."""
    if value is None or isinstance(value, bool):
        return cell is value
    if isinstance(value, dt.datetime):
        return bool(cell.replace(tzinfo=dt.UTC) == value.replace(microsecond=value.microsecond // 1000 * 1000))
    if isinstance(value, int | Decimal):
        return Decimal(str(cell)) == value
    return unescape(cell) == str(value)


async def test_every_value_of_every_dataset_is_found(admin: UserClient, owner: asyncpg.Connection, work: Work) -> None:
    await fill(owner, admin.user_id)
    stored = {name: await records(owner, name) for name in DATASETS}
    async with work():
        jobs = {name: await done(admin, name, format="xlsx", filter=everything(name)) for name in DATASETS}
    for name, job in jobs.items():
        answer = await admin.get(f"{JOBS}/{job['id']}/download")
        assert answer.headers["Content-Type"] == XLSX.media_type
        found = sheet(answer.content)
        assert found.title == name
        rows = list(found.iter_rows(min_row=2, values_only=True))
        assert len(rows) == job["result"]["rows"] >= len(stored[name]) > 0
        # what is in the audit log beyond the records is of the exports themselves
        for row, record in zip(rows, stored[name], strict=name != "audit_log"):
            assert [pair for pair in zip(row, record, strict=True) if not same(*pair)] == []


async def test_text_too_long_for_a_cell_fails_the_export_with_a_problem_that_names_other_formats(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    await owner.execute("insert into items (sku, name, unit, description) values ('a', 'b', 'PCS', repeat('x', 40000))")
    async with work():
        job = await done(viewer, format="xlsx")
        assert (job["status"], job["error"]["type"]) == ("failed", "/problems/cell-too-long")
        assert "Row 2 has a text in description" in job["error"]["detail"]
        assert (await done(viewer, format="csv"))["status"] == "succeeded"
