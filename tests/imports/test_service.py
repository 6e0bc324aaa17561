"""Imports of items and locations, and what all imports have in common: reading, refusing, importing a file once."""

import asyncio
import csv
import gzip
import io
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import hypothesis
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from erp_service.access.principals import system
from erp_service.imports import service
from erp_service.imports.csv_table import Table
from erp_service.imports.files.faults import MAX_FAULTS, Faults, ImportRefused
from erp_service.imports.files.header import Layout
from erp_service.imports.files.text_lines import MAX_RECORD
from erp_service.imports.service import Loaded
from erp_service.imports.spool import CannotRead
from erp_service.settings import Settings
from erp_service.texts import nfc
from tests.imports.loading import Load, refused

ITEMS = "sku,name,unit\nA,Apple,pcs\nB,Pear,pcs\n"


async def test_items_are_stored_in_file_order_with_one_audit_entry(load: Load, owner: asyncpg.Connection) -> None:
    content = (
        "sku,name,unit,reorder_point,description,status\r\n"
        'B-1,"Bolt, ""M8""",pcs,12.500,"two\nlines",\r\n'
        "A-1,Äpfel,kg,,,DISCONTINUED\r\n\r\n"
    )
    loaded = await load("items", b"\xef\xbb\xbf" + content.encode())
    assert (loaded.rows, loaded.filename) == (2, "file.csv")
    rows = await owner.fetch(
        "select sku, name, unit, trim_scale(reorder_point)::text, description, status from items order by id"
    )
    assert [tuple(row) for row in rows] == [
        ("B-1", 'Bolt, "M8"', "pcs", "12.5", "two\nlines", "ACTIVE"),
        ("A-1", "Äpfel", "kg", None, None, "DISCONTINUED"),
    ]
    audit = await owner.fetch("select action, entity_id, user_id, request_id, after->>'sha256' from audit_log")
    kept = await owner.fetchrow("select id::text, kind, sha256, filename, row_count from imports")
    assert [tuple(row) for row in audit] == [("import.items", kept["id"], None, "test", loaded.sha256)]
    assert tuple(kept)[1:] == ("items", loaded.sha256, "file.csv", 2)


BAD_ITEMS = {
    "": ["The file is empty."],
    "sku,name,unit\n": ["The file has a header and nothing else."],
    "\n\n": ["The file is empty."],
    "sku,name\nA,Apple\n": ["line 1, unit: the column is missing; there must be sku, name, unit"],
    "sku;name\nA;Apple\n": ["the column is missing"] * 3 + ["--delimiter semicolon"],
    f"sku,name,unit,{','.join(map(str, range(17)))}\nA,Apple,pcs{',x' * 17}\n": ["line 1: 17 columns are not known"],
    f"sku,name,unit,{'x' * 101}\nA,Apple,pcs,x\n": ["line 1, column 4: has a name of more than 100 characters"],
    f"sku,name,unit,colour\nA,Apple,pcs,{'x' * 501}\n": ["line 2, colour: Expected `string` of length <= 500"],
    "sku,name,unit,name\nA,Apple,pcs,x\n": ["line 1, name: the column is there twice"],
    "sku,name,unit,\nA,Apple,pcs,x\n": ["line 2: has 4 values, but the header names 3 columns"],
    "sku,,name,unit\nA,x,Apple,pcs\nB,,Pear,pcs\n": ["line 2, column 2: has no name in the header, and holds 'x'"],
    "sku,name,unit\nA,Apple\nB,Pear,pcs,x\n": ["line 2: has 2 values, but the header names 3", "line 3: has 4 values"],
    "sku,name,unit\n,Apple,pcs\nB,,pcs\nC,Cherry,\n": ["line 2, sku:", "line 3, name:", "line 4, unit:"],
    "sku,name,unit\nA,Apple,pcs\nB,Pear,pcs\nA,Other,pcs\n": ["line 4, sku: is the same as on line 2"],
    "sku,name,unit\n A,Apple,pcs\n": ["line 2, sku: begins with a blank"],
    "sku,name,unit,reorder_point\nA,Apple,pcs,1e3\nB,Pear,pcs,-1\nC,Fig,pcs,NaN\nD,Nut,pcs,0.0000001\n": [
        "line 2, reorder_point: is not a plain decimal number",
        "line 3, reorder_point: must be at least 0",
        "line 4, reorder_point: is not a plain",
        "line 5, reorder_point: has more than 6 decimals",
    ],
    "sku,name,unit,status\nA,Apple,pcs,OLD\n": ["line 2, status: 'OLD' is not one of ACTIVE, INACTIVE, DISCONTINUED"],
    'sku,name,unit\nA,"Apple,pcs\nB,Pear,pcs\n': ["line 2: has a quote that never closes"],
    'sku,name,unit\nA,"Apple"x,pcs\nB,Pear,\n': ["line 2: goes on after a closing quote", "line 3, unit:"],
    "sku,name,unit\nA,Ap\rple,pcs\n": ["line 2: holds a carriage return outside quotes"],
    "sku,name,unit\nA,Ap\0ple,pcs\n": ["line 2: holds a NUL character"],
    b"sku,name,unit\nA,\xc4pfel,pcs\nB,,pcs\n": ["line 2: is not UTF-8", "line 3, name:"],
    f"sku,name,unit\nA,{'x' * (MAX_RECORD + 1)},pcs\nB,,pcs\n": ["line 2: is longer than"],
    'sku,name,unit\nA,"' + '","\n' * MAX_RECORD: ["line 2: is longer than"],
    b"PK\x03\x04 a spreadsheet": ["is a workbook (.xlsx, .ods) or a zip archive: save the sheet as CSV"],
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 older": ["is an old workbook (.xls): save the sheet as CSV"],
    gzip.compress(b"<html><table>"): ["is HTML or XML"],
    b'[{"sku": "A"}]': ["is JSON as one array"],
}


async def test_every_bad_line_is_named_and_nothing_is_stored(load: Load, owner: asyncpg.Connection) -> None:
    for content, expected in BAD_ITEMS.items():
        found = await refused(load("items", content))
        assert len([line for line in found if any(part in line for part in expected)]) == len(expected), found
    for table in ("items", "imports", "audit_log"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0


async def test_only_the_first_hundred_faults_are_told_and_all_are_counted(load: Load) -> None:
    with pytest.raises(ImportRefused) as caught:
        await load("items", "sku,name,unit\n" + "A,,\n" * 500)
    assert (len(caught.value.faults), caught.value.total) == (MAX_FAULTS, 500 + 500 + 499)


async def test_a_sku_that_exists_is_refused_by_line_also_when_deleted(load: Load, owner: asyncpg.Connection) -> None:
    await load("items", ITEMS)
    await owner.execute("update items set deleted_at = now() where sku = 'B'")
    found = await refused(load("items", "sku,name,unit\nC,Cherry,pcs\nB,New pear,pcs\nA,New apple,pcs\n"))
    assert found == [
        "line 3, sku: there is an item 'B' already, perhaps a deleted one",
        "line 4, sku: there is an item 'A' already, perhaps a deleted one",
    ]
    assert await owner.fetchval("select string_agg(name, ' ' order by id) from items") == "Apple Pear"


async def test_the_same_content_is_refused_however_it_is_packed(load: Load, owner: asyncpg.Connection) -> None:
    loaded = await load("items", ITEMS)
    at = await owner.fetchval("select to_char(imported_at at time zone 'UTC', 'YYYY-MM-DD') from imports")
    for content in (ITEMS.encode(), lzma.compress(ITEMS.encode()), gzip.compress(ITEMS.encode())):
        (found,) = await refused(load("items", content))
        assert found.startswith(f"This content was imported already: 2 items from file.csv, on {at} at ")
    rows = await owner.fetchrow("select count(*), (select count(*) from items), max(sha256) from imports")
    assert tuple(rows) == (1, 2, loaded.sha256)


async def test_of_imports_of_one_content_at_once_one_wins(
    settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "items.csv"
    path.write_text("sku,name,unit\n" + "".join(f"S{n},Thing {n},pcs\n" for n in range(3000)))
    outcomes = await asyncio.gather(
        *(service.load(settings.database_url, "items", path, who=system("test")) for _ in range(4)),
        return_exceptions=True,
    )
    assert len([o for o in outcomes if isinstance(o, Loaded)]) == 1
    assert len([o for o in outcomes if isinstance(o, ImportRefused) and "imported already" in str(o)]) == 3
    assert await owner.fetchval("select count(*) from items") == 3000


async def test_a_refused_file_may_be_imported_once_its_cause_is_gone(load: Load, owner: asyncpg.Connection) -> None:
    await owner.execute("insert into items (sku, name, unit) values ('A', 'x', 'pcs')")
    await refused(load("items", ITEMS))
    await owner.execute("update items set sku = 'Z'")
    assert (await load("items", ITEMS)).rows == 2


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "xz": lzma.compress,
    "gz": gzip.compress,
    "zst": lambda raw: zstandard.ZstdCompressor().compress(raw),
    "two xz streams and padding": lambda raw: lzma.compress(raw[:20]) + b"\0" * 4 + lzma.compress(raw[20:]),
    "two gz members": lambda raw: gzip.compress(raw[:20]) + gzip.compress(raw[20:]),
    "two zst frames": lambda raw: b"".join(zstandard.ZstdCompressor().compress(part) for part in (raw[:20], raw[20:])),
}


async def test_what_compresses_a_file_is_told_by_its_bytes(load: Load) -> None:
    for how, pack in PACKED.items():
        many = "sku,name,unit\n" + "".join(f"{how} {n},Thing {n},pcs\n" for n in range(500))
        assert (await load("items", pack(many.encode()))).rows == 500, how


async def test_a_compressed_file_that_is_cut_short_or_damaged_is_refused(load: Load, owner: asyncpg.Connection) -> None:
    content = ("sku,name,unit\n" + "".join(f"S{n},x{n * n},pcs\n" for n in range(2000))).encode()
    for how in ("xz", "gz", "zst"):
        packed = PACKED[how](content)
        assert await refused(load("items", packed[: len(packed) // 2])) == ["The compressed file is cut short."]
        middle = len(packed) // 2
        damaged = packed[:middle] + bytes(byte ^ 0xFF for byte in packed[middle : middle + 40]) + packed[middle + 40 :]
        (found,) = await refused(load("items", damaged))
        assert found in {"The compressed file is damaged.", "The compressed file is cut short."}
    assert await owner.fetchval("select count(*) from items") == 0


async def test_a_pipe_is_read_to_its_end(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe:
        buffer = io.BytesIO(gzip.compress(ITEMS.encode()))

    monkeypatch.setattr(sys, "stdin", Pipe)
    loaded = await service.load(settings.database_url, "items", "-", who=system("test"))
    assert (loaded.rows, loaded.filename) == (2, "-")


async def test_a_file_that_is_not_there_is_no_refusal(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match=r"cannot read .*none\.csv: No such file"):
        await service.load(settings.database_url, "items", tmp_path / "none.csv", who=system("test"))


async def test_locations_may_stand_before_their_parents(load: Load, owner: asyncpg.Connection) -> None:
    await load("locations", "code,name,location_type\nOLD,Old,WAREHOUSE\n")
    await load(
        "locations",
        "code,name,location_type,address,parent,allow_negative_stock\n"
        "A-1,Bin,BIN,,A,yes\nA,Zone,ZONE,,MAIN,\nMAIN,Main,WAREHOUSE,1 High St,,FALSE\nO-1,Zone,ZONE,,OLD,0\n",
    )
    rows = await owner.fetch(
        "select l.code, p.code, l.address, l.allow_negative_stock from locations l"
        " left join locations p on p.id = l.parent_id order by l.id"
    )
    assert [tuple(row) for row in rows] == [
        ("OLD", None, None, False),
        ("A-1", "A", None, True),
        ("A", "MAIN", None, False),
        ("MAIN", None, "1 High St", False),
        ("O-1", "OLD", None, False),
    ]


def chain(length: int) -> str:
    lines = [f"C{n},Place {n},ZONE,{f'C{n - 1}' if n else ''}\n" for n in range(length)]
    return "code,name,location_type,parent\n" + "".join(reversed(lines))


BAD_LOCATIONS = {
    "code,name,location_type,parent\nA,A,ZONE,NONE\n": ["line 2, parent: there is no location 'NONE'"],
    "code,name,location_type,parent\nA,A,ZONE,GONE\n": ["line 2, parent: there is no location 'GONE'"],
    "code,name,location_type,parent\nA,A,ZONE,A\n": ["line 2, parent: is itself, a part of it"],
    "code,name,location_type,parent\nA,A,ZONE,B\nB,B,ZONE,C\nC,C,ZONE,A\n": ["is itself, a part of it"],
    chain(21): ["line 2, parent: is itself, a part of it, or more than 20 levels deep"],
    "code,name,location_type\nA,A,SHELF\nA,A,BIN\n": [
        "line 2, location_type:",
        "line 3, code: is the same as on line 2",
    ],
    "code,name,location_type\nTHERE,A,BIN\n": ["line 2, code: there is a location 'THERE' already"],
    "code,name,location_type,allow_negative_stock\nA,A,BIN,perhaps\n": [
        "line 2, allow_negative_stock: 'perhaps' is neither true nor false"
    ],
    # the child of a bad line is not at fault
    "code,name,location_type,parent\nA,,ZONE,\nB,B,ZONE,A\n": ["line 2, name:"],
}


async def test_bad_locations_are_named(load: Load, owner: asyncpg.Connection) -> None:
    await owner.execute(
        "insert into locations (code, name, location_type, deleted_at)"
        " values ('THERE', 'x', 'BIN', null), ('GONE', 'x', 'BIN', now())"
    )
    for content, expected in BAD_LOCATIONS.items():
        found = await refused(load("locations", content))
        assert len([line for line in found if any(part in line for part in expected)]) == len(expected), found
        assert len(found) <= len(expected) + 1
    assert await owner.fetchval("select count(*) from locations") == 2


async def test_a_tree_as_deep_as_is_allowed_is_taken_also_below_one_that_is_there(load: Load) -> None:
    assert (await load("locations", chain(20))).rows == 20
    found = await refused(load("locations", "code,name,location_type,parent\nX,X,BIN,C19\nY,Y,BIN,C18\n"))
    assert found == ["line 2, parent: is itself, a part of it, or more than 20 levels deep"]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@hypothesis.settings(deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=20))
def test_what_a_csv_writer_writes_is_what_is_read(rows: list[tuple[str, str, str]]) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b", "c"), *rows])
    faults = Faults()
    table = Table(io.BytesIO(written.getvalue().encode()), Layout(("b", "a"), ("d",), keeps_extras=True), faults)
    assert [(known, record[2]) for _, known, record in table] == [
        ((nfc(b), nfc(a), ""), nfc(c)) for a, b, c in rows if f"{a}{b}{c}".strip()
    ]
    assert faults.total == 0
    assert table.extras == [(2, "c")]


@hypothesis.settings(deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text('ab,"\n\r\0 ', max_size=80).map(str.encode)))
def test_no_bytes_break_the_reading(raw: bytes) -> None:
    faults = Faults()
    table = Table(io.BytesIO(b"a,b\n" + raw), Layout(("a", "b"), ()), faults)
    rows = list(table)
    lines = raw.count(b"\n") + 2
    assert all(2 <= line <= lines for line, _, _ in rows)
    assert all(fault.line and 1 <= fault.line <= lines for fault in faults.first)
    # every line that holds a value was returned or reported, unless a quote joined several lines
    if b'"' not in raw and b"\r" not in raw:
        assert {line for line, _, _ in rows} | {fault.line for fault in faults.first} == {
            number
            for number, line in enumerate(raw.split(b"\n"), 2)
            if line.decode(errors="replace").replace(",", "").strip()
        }
