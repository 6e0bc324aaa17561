"""Files as spreadsheets save them: what is recognised, what needs a word of the caller, and the sentence that asks."""

import gzip
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import asyncpg

from erp_service.imports.files.dialect import Dialect
from erp_service.imports.identifiers import damage, on_paper
from erp_service.imports.service import Kind
from tests.imports.loading import Load, refused
from tests.inventory.books import assert_books, balance, stocked

PLAIN = "sku,name,unit,reorder_point\nC-100,Mug,pcs,10\nC-101,Bowl,pcs,\n"
MOVEMENTS = "occurred_at,type,sku,location,quantity,unit_cost\n"
BERLIN = Dialect(zone=ZoneInfo("Europe/Berlin"))


async def items(owner: asyncpg.Connection) -> list[tuple[str, ...]]:
    """Each of them as sku, name and reorder point, and nothing of them is left."""
    rows = await owner.fetch("select sku, name, coalesce(trim_scale(reorder_point)::text, '') from items order by id")
    await owner.execute("delete from items; delete from imports")
    return [tuple(row) for row in rows]


RECOGNISED: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "capitals in the header": ("SKU, Name ,Unit,Reorder_Point\nA,Mug,pcs,10\n", ("A", "Mug", "10")),
    "semicolons": ("sku;name;unit\nA;Mug, blue;pcs\n", ("A", "Mug, blue", "")),
    "tabs": ("sku\tname\tunit\nA\tMug\tpcs\n", ("A", "Mug", "")),
    "bars": ("sku|name|unit\nA|Mug|pcs\n", ("A", "Mug", "")),
    "line with the separator": ("sep=,\nsku,name,unit\nA,Mug,pcs\n", ("A", "Mug", "")),
    "line with a rare separator": ('\ufeff"sep=^"\r\nsku^name^unit\r\nA^Mug^pcs\r\n', ("A", "Mug", "")),
    "UTF-16 as spreadsheets call Unicode text": (
        "sku\tname\tunit\r\nA\tKüche\tpcs\r\n".encode("utf-16"),
        ("A", "Küche", ""),
    ),
    "UTF-16 of the other order, compressed": (
        gzip.compress(b"\xfe\xff" + "sku,name,unit\nA,Küche 漢,pcs\n".encode("utf-16-be")),
        ("A", "Küche 漢", ""),
    ),
    "a separator at the end of each line": ("sku,name,unit,\nA,Mug,pcs,\n", ("A", "Mug", "")),
    "a column without a name or a value": ("sku,,name,unit\nA,,Mug,pcs\n", ("A", "Mug", "")),
    "status in small letters": ("sku,name,unit,status\nA,Mug,pcs,active\n", ("A", "Mug", "")),
}


async def test_what_is_certain_about_a_file_is_recognised(load: Load, owner: asyncpg.Connection) -> None:
    for how, (content, expected) in RECOGNISED.items():
        assert (await load("items", content)).rows == 1, how
        assert await items(owner) == [expected], how


async def test_rows_of_nothing_are_passed_over_and_counted(load: Load, owner: asyncpg.Connection) -> None:
    """Each of them had five faults."""
    loaded = await load("items", "sku,name,unit,reorder_point\nA,Mug,pcs,10\n,,,\n , ,,\n\n,,,,,,\n")
    assert (loaded.rows, loaded.blank_rows) == (1, 4)
    assert (await load("locations", "code,name,location_type\nL,L,bin\n,,\n")).blank_rows == 1
    moved = await load("movements", f"{MOVEMENTS}2026-03-01T10:00:00Z,IN,A,L,1,2\n,,,,,\n,,,,,\n")
    assert (moved.rows, moved.blank_rows) == (1, 2)


SAYS_WHAT_HELPS: dict[str | bytes, str] = {
    "sku;name;unit;reorder_point\nA;Mug;pcs;2,5\n": "line 2, reorder_point: has a comma: --decimal-comma",
    "sku;name\nA;Mug\n": "line 1: the columns seem to be separated by semicolons: say --delimiter semicolon",
    "sku,name,unit\nA,Küche,pcs\n".encode("cp1252"): "line 2: is not UTF-8; what older spreadsheets save, --encoding",
    "sku,name,unit,status\nA,Mug,pcs,old\n": "line 2, status: 'old' is not one of ACTIVE, INACTIVE, DISCONTINUED",
    "sku,SKU,name,unit\nA,A,Mug,pcs\n": "line 1, sku: the column is there twice; capitals make no difference",
}


async def test_what_is_not_certain_is_refused_with_the_words_that_say_it(load: Load, owner: asyncpg.Connection) -> None:
    for content, expected in SAYS_WHAT_HELPS.items():
        found = await refused(load("items", content))
        assert any(fault.startswith(expected) for fault in found), found
    said: dict[str | bytes, Dialect] = {
        "sku;name;unit;reorder_point\nA;Mug;pcs;2,5\n": Dialect(decimal_comma=True),
        "sku;name;unit;reorder_point\nA;Bo,wl;pcs;2,5\n": Dialect(decimal_comma=True, delimiter=";"),
        "sku,name,unit,reorder_point\nA,Küche,pcs,2.5\n".encode("cp1252"): Dialect(encoding="cp1252"),
    }
    for content, dialect in said.items():
        await load("items", content, dialect)
        assert [(sku, point) for sku, _, point in await items(owner)] == [("A", "2.5")]
    wrong: list[tuple[str | bytes, Dialect, str]] = [
        (
            "sku;name;unit;reorder_point\nA;Mug;pcs;1.234,5\n",
            Dialect(decimal_comma=True),
            "line 2, reorder_point: has a",
        ),
        (b"sku,name,unit\nA,Mug,pcs\nB,\x81,pcs\n", Dialect(encoding="cp1252"), "line 3: is not cp1252"),
        ("\ufeffsku,name,unit\nA,Mug,pcs\n", Dialect(encoding="cp1252"), "The file begins with the mark of UTF-8"),
    ]
    for content, dialect, fault in wrong:
        (only,) = await refused(load("items", content, dialect))
        assert only.startswith(fault)


async def test_content_saved_again_by_a_spreadsheet_is_refused(load: Load, owner: asyncpg.Connection) -> None:
    await stocked(owner, "A")
    await load("items", PLAIN)
    moved = f"{MOVEMENTS}2026-03-01T10:00:00Z,IN,A,MAIN,5,2.00\n2026-03-01T10:00:00Z,IN,A,MAIN,3,\n"
    await load("movements", moved)
    again: list[tuple[Kind, str | bytes, Dialect]] = [
        ("items", PLAIN.encode(), Dialect()),
        ("items", b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode(), Dialect()),
        ("items", PLAIN.replace(",", ";").replace(";10\n", ';"10,0"\n'), Dialect(decimal_comma=True)),
        ("items", "unit,SKU,reorder_point,name\npcs,C-101,,Bowl\npcs,C-100,10.000,Mug\n,,,\n", Dialect()),
        ("movements", moved.replace("T", " ").replace("2.00", "2"), Dialect()),
        ("movements", moved.replace("T10:00:00Z", " 11:00"), BERLIN),
    ]
    for kind, content, dialect in again:
        found = await refused(load(kind, content, dialect))
        assert found[0].startswith(f"This content was imported already: 2 {kind} from file.csv, on "), found
        assert len(found) == 1
    assert await balance(owner, "A", "MAIN") == "8 16"
    # a row more is another content, also for the reason of each row that is there
    (present, _) = await refused(load("items", PLAIN + "C-102,Plate,pcs,\n"))
    assert present.startswith("line 2, sku: there is an item 'C-100' already")
    assert (await load("movements", f"{moved}2026-03-01T10:00:00Z,IN,A,MAIN,3,\n")).rows == 3


async def test_content_that_an_earlier_version_imported_is_known_by_its_bytes(
    load: Load, owner: asyncpg.Connection
) -> None:
    await load("items", PLAIN)
    await owner.execute("update imports set content_sha256 = null; delete from items")
    (found,) = await refused(load("items", PLAIN))
    assert found.startswith("This content was imported already: 2 items from file.csv")


async def test_what_looks_the_same_names_the_line_that_it_equals(load: Load, owner: asyncpg.Connection) -> None:
    found = await refused(
        load(
            "items",
            "sku,name,unit\nCAFÉ-1,Cup,pcs\nCAFE\u0301-1,Cup again,pcs\nA\u00a0B,Two words,pcs\nA B,Again,pcs\n"
            "A  B,Again,pcs\nA\u200b B,Again,pcs\na B,Another,pcs\n",
        )
    )
    assert [fault for fault in found if " on line " in fault] == [
        "line 3, sku: is the same as on line 2",
        "line 5, sku: looks the same as what is on line 4",
        "line 6, sku: looks the same as what is on line 4",
        "line 7, sku: looks the same as what is on line 4",
    ]
    (code,) = await refused(load("locations", "code,name,location_type\nCAFÉ,A,BIN\nCAFE\u0301,B,BIN\n"))
    assert code == "line 3, code: is the same as on line 2"
    # what is stored is composed, so a movement finds it in either form
    await load("items", "sku,name,unit\nCAFE\u0301,Cafe\u0301,pcs\n")
    await load("locations", "code,name,location_type,parent\nBU\u0308RO,Büro,ZONE,\nB-1,Bin,BIN,BÜRO\n")
    await load("movements", f"{MOVEMENTS}2026-03-01T10:00:00Z,IN,CAFÉ,BU\u0308RO,1,2\n")
    assert await balance(owner, "CAFÉ", "BÜRO") == "1 2"
    assert await owner.fetchval("select name from items") == "Café"


def test_paper_shows_neither_invisible_characters_nor_kinds_of_blanks() -> None:
    for text in ("A B", "A\u00a0B", "A  B", " A B ", "A\u2009B", "A\u200b B", "A\ufe0f B", "A\U000e0041 B", "A\u2800B"):
        assert on_paper(text) == "A B", ascii(text)
    assert on_paper("a B") != on_paper("A B")


async def test_codes_that_a_spreadsheet_has_damaged_need_consent(load: Load, owner: asyncpg.Connection) -> None:
    content = "sku,name,unit\n6.93217E+12,Mug,pcs\n05.Mar,Bowl,pcs\n#N/A,Plate,pcs\nMAR-05,Fine,pcs\n"
    found = await refused(load("items", content))
    assert [fault.partition(" looks like ")[0] for fault in found] == [
        "line 2, sku: '6.93217E+12'",
        "line 3, sku: '05.Mar'",
        "line 4, sku: '#N/A'",
    ]
    assert all("--keep-codes" in fault for fault in found)
    (code,) = await refused(load("locations", "code,name,location_type\n1E+05,A,BIN\n"))
    assert code.startswith("line 2, code: '1E+05' looks like a large number")
    kept = await load("items", content, Dialect(keep_codes=True))
    assert kept.rows == 4
    assert [warning.partition(" is taken ")[0] for warning in kept.warnings] == [
        "line 2, sku: '6.93217E+12'",
        "line 3, sku: '05.Mar'",
        "line 4, sku: '#N/A'",
    ]


def test_only_what_spreadsheets_write_counts_as_damaged() -> None:
    damaged = ["6.93217E+12", "6,93217E+12", "1E+05", "5-Mar", "05. Mrz", "Mär 05", "Sep-02", "#REF!", "#NV"]
    whole = ["6E12", "E+12", "MAR-05", "10-DEC", "OUT-01", "05.03", "#1", "5-Mai-X", "Sep-2", "SET-10", "12-abc", ""]
    assert [code for code in damaged if damage(code) is None] == []
    assert [code for code in whole if damage(code) is not None] == []


async def test_newest_first_says_that_order_counts_and_can_be_sorted(load: Load, owner: asyncpg.Connection) -> None:
    await stocked(owner, "A")
    newest_first = (
        f"{MOVEMENTS}2026-03-02T10:00:00Z,OUT,A,MAIN,5,\n2026-03-01T10:00:00Z,OUT,A,MAIN,1,\n"
        "2026-03-01T10:00:00Z,IN,A,MAIN,6,2.00\n"
    )
    order, *short = await refused(load("movements", newest_first))
    assert order.startswith("The rows are not in order of time")
    assert "--sort occurred_at" in order
    assert short == ["line 2, quantity: only 0 of A at MAIN", "line 3, quantity: only 0 of A at MAIN"]
    # the rows of one time turn around, too, since the file has the newest of them first
    assert (await load("movements", newest_first, Dialect(sort="occurred_at"))).rows == 3
    assert await balance(owner, "A", "MAIN") == "0 0"
    mixed = (
        f"{MOVEMENTS}2026-03-05T10:00:00Z,OUT,A,MAIN,2,\n2026-03-03T10:00:00Z,IN,A,MAIN,2,3\n"
        '"2026-03-04T10:00:00Z",OUT,A,MAIN,1,\n2026-03-04T10:00:00Z,IN,A,MAIN,1,3\n'
    )
    assert (await load("movements", mixed, Dialect(sort="occurred_at"), batch_size=2)).rows == 4
    assert await balance(owner, "A", "MAIN") == "0 0"
    await assert_books(owner)
    # a file in order gets no advice that does not help
    (only,) = await refused(load("movements", f"{MOVEMENTS}2026-03-06T10:00:00Z,OUT,A,MAIN,1,\n"))
    assert only == "line 2, quantity: only 0 of A at MAIN"


async def test_times_without_a_zone_need_the_name_of_one(load: Load, owner: asyncpg.Connection) -> None:
    await stocked(owner, "A")
    rows = "2026-03-01 10:00:00,IN,A,MAIN,5,2.00\n2026-07-02,IN,A,MAIN,5,2.00\n2026-07-02 10:30,IN,A,MAIN,5,2.00\n"
    found = await refused(load("movements", MOVEMENTS + rows))
    assert len(found) == 3
    assert all("--timezone Europe/Berlin" in fault for fault in found)
    await load("movements", MOVEMENTS + rows, BERLIN)
    times = await owner.fetch("select occurred_at from stock_ledger order by id")
    assert [row["occurred_at"] for row in times] == [
        datetime(2026, 3, 1, 9, tzinfo=UTC),
        datetime(2026, 7, 1, 22, tzinfo=UTC),
        datetime(2026, 7, 2, 8, 30, tzinfo=UTC),
    ]
    for time, change in (("2026-10-25 02:30", "showed twice"), ("2026-03-29 02:30", "skipped")):
        (only,) = await refused(load("movements", f"{MOVEMENTS}{time},IN,A,MAIN,5,2.00\n", BERLIN))
        assert only.startswith(f"line 2, occurred_at: is a time that the clocks of Europe/Berlin {change}")


async def test_times_as_a_spreadsheet_shows_them_are_refused_with_the_format_that_is_read(
    load: Load, owner: asyncpg.Connection
) -> None:
    """Which of 01.03. and 03/01 is the month, no file tells, and 46082 is a day only for a spreadsheet."""
    await stocked(owner, "A")
    times = ("01.03.2026 10:00", "03/01/2026", "46082", "1 Mar 2026")
    rows = "".join(f"{time},IN,A,MAIN,1,1\n" for time in times)
    for dialect in (Dialect(), BERLIN):
        found = await refused(load("movements", MOVEMENTS + rows, dialect))
        assert [fault.partition(":")[0] for fault in found] == [f"line {2 + n}, occurred_at" for n in range(len(times))]
        assert all("--timezone 2026-03-01 10:00" in fault and "yyyy-mm-dd hh:mm:ss" in fault for fault in found)


async def test_what_a_formula_guard_has_changed_is_not_imported_in_silence(
    load: Load, owner: asyncpg.Connection
) -> None:
    for guarded in ("'=1+2", "a;'=1+2;b", "'-A", "'@x", "x\n'=cmd"):
        loaded = await load("items", f'sku,name,unit\nA,"{guarded}",pcs\nB,"{guarded}",pcs\n')
        (warning,) = loaded.warnings
        assert warning.startswith("line 2: has an apostrophe before what would be a formula")
        assert [name for _, name, _ in await items(owner)] == [guarded, guarded]
    for plain in ("rock 'n' roll", "5' tube", "'tis", "=1+2", "a;b's"):
        assert (await load("items", f'sku,name,unit\nA,"{plain}",pcs\n')).warnings == ()
        await items(owner)


async def test_a_receipt_may_state_what_all_of_it_cost(load: Load, owner: asyncpg.Connection) -> None:
    """37.00 for 24 pieces is no unit cost of four decimals."""
    await stocked(owner, "A", "B", places=("MAIN", "OWED-"))
    header = "occurred_at,type,sku,location,quantity,unit_cost,total_cost\n"
    at = "2026-03-01T10:00:00Z"
    await load("movements", f"{header}{at},IN,A,MAIN,24,,37.00\n{at},OUT,B,OWED-,2,,\n{at},IN,B,OWED-,3,,10\n")
    assert await balance(owner, "A", "MAIN") == "24 37"
    assert await balance(owner, "B", "OWED-") == "1 3.3333"
    await assert_books(owner)
    for row, expected in (
        ("IN,A,MAIN,1,2,2", "line 2, total_cost: is there beside unit_cost: give one of the two"),
        ("OUT,A,MAIN,1,,2", "line 2, total_cost: only what comes in has a cost"),
        ("IN,A,MAIN,1,,-2", "line 2, total_cost: must be at least 0"),
    ):
        (only,) = await refused(load("movements", f"{header}{at},{row}\n"))
        assert only.startswith(expected)


async def test_items_that_are_not_active_follow_the_rules_of_the_api_unless_it_is_history(
    load: Load, owner: asyncpg.Connection
) -> None:
    await stocked(owner, "A")
    await stocked(owner, "OLD", status="INACTIVE")
    await stocked(owner, "LAST", status="DISCONTINUED")
    at = "2026-03-01T10:00:00Z"
    content = (
        f"{MOVEMENTS}{at},IN,A,MAIN,1,1\n{at},IN,OLD,MAIN,5,1\n{at},ADJUSTMENT,OLD,MAIN,1,\n{at},IN,LAST,MAIN,5,1\n"
        f"{at},OUT,LAST,MAIN,1,\n{at},OUT,OLD,MAIN,1,\n"
    )
    assert await refused(load("movements", content)) == [
        "line 3, sku: OLD is INACTIVE and takes adjustments only; --history takes movements of the past",
        "line 5, sku: LAST is DISCONTINUED and takes no more receipts; --history takes movements of the past",
        "line 7, sku: OLD is INACTIVE and takes adjustments only; --history takes movements of the past",
    ]
    assert await owner.fetchval("select count(*) from stock_ledger") == 0
    assert (await load("movements", content, Dialect(history=True))).rows == 6
    assert await balance(owner, "LAST", "MAIN") == "4 4"


async def test_a_dry_run_says_what_is_wrong_and_keeps_nothing(load: Load, owner: asyncpg.Connection) -> None:
    committed: list[bool] = []
    loaded = await load("items", PLAIN, dry_run=True, committing=lambda: committed.append(True))
    assert (loaded.rows, committed) == (2, [])
    for table in ("items", "imports", "audit_log"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0
    assert len(await refused(load("items", "sku,name,unit\n,,pcs\n", dry_run=True))) == 2
    await load("items", PLAIN, committing=lambda: committed.append(True))
    assert committed == [True]


async def test_flags_as_spreadsheets_of_other_languages_save_them(load: Load, owner: asyncpg.Connection) -> None:
    flags = ("WAHR", "falsch", "VRAI", "FAUX", "Verdadero", "FALSO", "true", "f", "1", "no")
    rows = "".join(f"L{n},L,BIN,{flag}\n" for n, flag in enumerate(flags))
    await load("locations", f"code,name,location_type,allow_negative_stock\n{rows}")
    found = await owner.fetch("select allow_negative_stock from locations order by id")
    assert [row[0] for row in found] == [True, False] * 5


async def test_sorting_does_not_count_all_rows_as_one(load: Load, owner: asyncpg.Connection) -> None:
    await stocked(owner, "A")
    # more characters than one record may have
    rows = "".join(
        f'2026-03-01T{minute // 60:02}:{minute % 60:02}:00Z,IN,A,MAIN,1,2,"{"n" * 300}"\n'
        for minute in reversed(range(500))
    )
    loaded = await load("movements", f"{MOVEMENTS.strip()},notes\n{rows}", Dialect(sort="occurred_at"))
    assert loaded.rows == 500
    assert await balance(owner, "A", "MAIN") == "500 1000"
