"""Imports of movements: the same books as posting them one by one, all or nothing, also beside a running service."""

import asyncio
import csv
import io
import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.imports import service
from erp_service.imports.movement_rows import LAYOUT
from erp_service.imports.service import Loaded
from erp_service.inventory.posting import ledger, row_locks
from erp_service.inventory.posting.lines import PostingLine
from erp_service.inventory.posting.row_locks import Wanted
from erp_service.inventory.posting.valuation import cost_of
from erp_service.inventory.problems import InsufficientStock
from erp_service.settings import Settings
from tests.imports.loading import Load, refused
from tests.inventory.books import assert_books, balance, stocked

HEADER = "occurred_at,type,sku,location,quantity,to_location,unit_cost,reference_no,notes,reason\n"
AT = "2026-01-15T12:00:00Z"


@pytest.fixture
def load(settings: Settings, tmp_path: Path) -> Load:
    async def load(content: str, **more: Any) -> Loaded:
        (tmp_path / "movements.csv").write_text(content)
        path = tmp_path / "movements.csv"
        return await service.load(settings.database_url, "movements", path, who=system("test"), **more)

    return load


async def test_each_kind_of_movement_becomes_its_entries(load: Load, owner: asyncpg.Connection) -> None:
    await stocked(owner, "A", "B", places=("MAIN", "SHOP", "OWED-"))
    await load(
        HEADER + f"{AT},IN,A,MAIN,10,,2.5,PO-1,,\n"
        f"{AT},TRANSFER,A,MAIN,4,SHOP,,PO-1,,\n"
        f"{AT},OUT,A,SHOP,1,,,,by hand,\n"
        f"{AT},ADJUSTMENT,A,MAIN,-0.5,,,,,broken\n"
        f"{AT},ADJUSTMENT,A,MAIN,1,,,,,\n"
        f"{AT},OUT,B,OWED-,2,,,,,\n"
        f"{AT},IN,B,OWED-,3,,1,,,\n"
        f"{AT},ADJUSTMENT,B,OWED-,2,,0.5,,,found\n"
    )
    rows = await owner.fetch(
        "select entry_type, code, trim_scale(quantity)::text, trim_scale(e.value)::text, trim_scale(unit_cost)::text,"
        " line, reason from stock_ledger e join locations l on l.id = e.location_id order by e.id"
    )
    assert [tuple(row) for row in rows] == [
        ("IN", "MAIN", "10", "25", "2.5", 1, None),
        ("TRANSFER_OUT", "MAIN", "-4", "0", None, 2, None),
        ("TRANSFER_IN", "SHOP", "4", "0", None, 2, None),
        ("OUT", "SHOP", "-1", "-2.5", None, 1, None),
        ("ADJUSTMENT", "MAIN", "-0.5", "-1.25", None, 1, "broken"),
        ("ADJUSTMENT", "MAIN", "1", "2.5", None, 1, "imported"),
        ("OUT", "OWED-", "-2", "0", None, 1, None),
        ("IN", "OWED-", "3", "3", "1", 1, None),
        ("ADJUSTMENT", "OWED-", "0", "-2", None, 1, "settlement of negative stock"),
        ("ADJUSTMENT", "OWED-", "2", "1", "0.5", 1, "found"),
    ]
    assert await balance(owner, "A", "MAIN") == "6.5 16.25"
    await assert_books(owner)


def random_lines(chance: Random, lines: int) -> list[dict[str, str]]:
    made = []
    for number in range(lines):
        kind = chance.choice(("IN", "IN", "OUT", "TRANSFER", "ADJUSTMENT"))
        place, other = chance.sample(("MAIN", "SHOP", "OWED-"), 2)
        line = {"type": kind, "location": place, "occurred_at": AT, "sku": chance.choice("AB")}
        line["quantity"] = str(Decimal(chance.randint(1, 9999)) / chance.choice((1, 10, 1000)))
        line |= {"to_location": other} if kind == "TRANSFER" else {}
        line |= {"unit_cost": str(Decimal(chance.randint(0, 99999)) / 10000)} if kind == "IN" and number % 3 else {}
        line |= {"reason": "counted", "quantity": chance.choice(("-", "")) + line["quantity"]} if kind[0] == "A" else {}
        made.append(line)
    return made


async def post(database: Database, line: dict[str, str], sku: str) -> bool:
    async with database.write() as db:
        valued = line["type"] != "TRANSFER"
        places = (line["location"], line.get("to_location", line["location"]))
        held = await row_locks.lock_rows(db, [Wanted(sku, place, valued=valued) for place in places])
        unit_cost = Decimal(line["unit_cost"]) if "unit_cost" in line else None
        posted = PostingLine(
            kind=line["type"],  # type: ignore[arg-type]
            item=held.items[sku],
            location=held.locations[line["location"]],
            to_location=held.locations[line["to_location"]] if "to_location" in line else None,
            quantity=Decimal(line["quantity"]),
            cost=None if unit_cost is None else cost_of(Decimal(line["quantity"]), unit_cost),
            unit_cost=unit_cost,
            occurred_at=datetime.fromisoformat(line["occurred_at"]),
            reason=line.get("reason"),
        )
        try:
            await ledger.post(db, system("test"), [posted], held)
        except InsufficientStock:
            return False
    return True


def as_csv(lines: list[dict[str, str]]) -> str:
    written = io.StringIO()
    writer = csv.DictWriter(written, LAYOUT.known, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return written.getvalue()


@pytest.mark.parametrize("seed", [1, 2])
async def test_an_import_makes_the_same_books_as_posting_line_by_line(
    seed: int, load: Load, database: Database, owner: asyncpg.Connection
) -> None:
    await stocked(owner, "A", "B", "posted A", "posted B", places=("MAIN", "SHOP", "OWED-"))
    drawn = random_lines(Random(seed), 160)
    lines = [line for line in drawn if await post(database, line, f"posted {line['sku']}")]
    assert 80 < len(lines) < len(drawn)
    await load(as_csv(lines), batch_size=7)
    columns = "location_id, entry_type, quantity, value, unit_cost, on_hand_after, item_on_hand_after"
    columns += ", value_after, origin, reason, metadata, line"
    for sku in ("A", "B"):
        entries = (
            f"select {columns} from stock_ledger where item_id = (select id from items where sku = $1) order by id"
        )
        assert await owner.fetch(entries, sku) == await owner.fetch(entries, f"posted {sku}")
        kept = "select location_id, b.on_hand, b.last_occurred_at, v.on_hand, v.value, v.last_cost"
        kept += " from stock_balances b join stock_values v using (item_id)"
        kept += " where item_id = (select id from items where sku = $1) and b.on_hand <> 0 order by 1"
        assert await owner.fetch(kept, sku) == await owner.fetch(kept, f"posted {sku}")
    await assert_books(owner)


async def test_lines_of_one_time_and_reference_are_one_document(load: Load, owner: asyncpg.Connection) -> None:
    await stocked(owner, "A")
    references = ["X"] * 2500 + ["Y", "Y", "", "", "Y"]
    lines = [{"occurred_at": AT, "type": "IN", "sku": "A", "location": "MAIN", "quantity": "1"} for _ in references]
    for line, reference in zip(lines, references, strict=True):
        line["reference_no"] = reference
    lines.append(lines[-1] | {"occurred_at": "2026-01-15T12:00:01Z"})
    await load(as_csv(lines), batch_size=64)
    documents = await owner.fetch(
        "select reference_no, count(*), min(line), max(line), bool_and(e.user_id is null and t.user_id is null)"
        " from stock_ledger e join stock_transactions t on t.id = e.transaction_id"
        " group by transaction_id, reference_no order by min(e.id)"
    )
    assert [tuple(row) for row in documents] == [
        ("X", 2000, 1, 2000, True),
        ("X", 500, 1, 500, True),
        ("Y", 2, 1, 2, True),
        (None, 1, 1, 1, True),
        (None, 1, 1, 1, True),
        ("Y", 1, 1, 1, True),
        ("Y", 1, 1, 1, True),
    ]


async def test_columns_that_nobody_knows_become_metadata_and_text_stays_as_it_is(
    load: Load, owner: asyncpg.Connection
) -> None:
    await stocked(owner, "A")
    odd = 'back\\slash \\N\ttab "quoted" – Ω\r\nline'
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow([*LAYOUT.known, "customer", "price"])
    writer.writerow([AT, "IN", "A", "MAIN", "1", "", "", "", "Ω 1", odd, "", "", odd, ""])
    writer.writerow([AT, "IN", "A", "MAIN", "1", "", "", "", "\\N", "", "", "", "", ""])
    await load(written.getvalue())
    rows = await owner.fetch("select reference_no, notes, metadata from stock_ledger order by id")
    assert [(r["reference_no"], r["notes"], json.loads(r["metadata"])) for r in rows] == [
        ("Ω 1", odd, {"customer": odd}),
        ("\\N", None, {}),
    ]


BAD = {
    "2026-01-15T12:00:00,IN,A,MAIN,1,,,,,": "line 2, occurred_at: is not a time with its zone",
    "2026-01-15,IN,A,MAIN,1,,,,,": "line 2, occurred_at: is not a time with its zone",
    "2026-02-30T12:00:00Z,IN,A,MAIN,1,,,,,": "line 2, occurred_at: is not a valid time",
    "0001-01-01T00:00:00+14:00,IN,A,MAIN,1,,,,,": "line 2, occurred_at: is not a valid time",
    "1899-12-31T23:59:59Z,IN,A,MAIN,1,,,,,": "line 2, occurred_at: is before 1900",
    "2999-01-01T00:00:00Z,IN,A,MAIN,1,,,,,": "line 2, occurred_at: is in the future",
    f"{AT},RETURN,A,MAIN,1,,,,,": "line 2, type: is not one of IN, OUT, TRANSFER, ADJUSTMENT",
    f"{AT},IN,,MAIN,1,,,,,": "line 2, sku: is missing",
    f"{AT},IN,A,,1,,,,,": "line 2, location: is missing",
    f"{AT},IN,A,MAIN,,,,,,": "line 2, quantity: is missing",
    f"{AT},IN,A,MAIN,-1,,,,,": "line 2, quantity: must be greater than 0",
    f"{AT},ADJUSTMENT,A,MAIN,0,,,,,": "line 2, quantity: must not be zero",
    f"{AT},IN,A,MAIN,1_000,,,,,": "line 2, quantity: is not a plain decimal number",
    f"{AT},IN,A,MAIN,١,,,,,": "line 2, quantity: is not a plain decimal number",
    f"{AT},IN,A,MAIN,1,,0.00000000001,,,": "line 2, unit_cost: has more than 10 decimals",
    f"{AT},OUT,A,MAIN,1,,1,,,": "line 2, unit_cost: only what comes in has a cost",
    f"{AT},IN,A,MAIN,1,SHOP,,,,": "line 2, to_location: only a TRANSFER goes to another location",
    f"{AT},TRANSFER,A,MAIN,1,,,,,": "line 2, to_location: is missing",
    f"{AT},TRANSFER,A,MAIN,1,MAIN,,,,": "line 2, to_location: is the location itself",
    f"{AT},IN,A,MAIN,1,,,{'x' * 101},,": "line 2, reference_no: is longer than 100",
    f"{AT},IN,A,MAIN,1,,,PO\u200b1,,": "line 2, reference_no: has an invisible character (U+200B) at position 3",
    f"{AT},IN,A,MAIN,1,,,,{'x' * 2001},": "line 2, notes: is longer than 2000",
    f"{AT},IN,A,MAIN,1,,,,,because": "line 2, reason: only an ADJUSTMENT has a reason",
    f"{AT},ADJUSTMENT,A,MAIN,1,,,,,{'x' * 501}": "line 2, reason: is longer than 500",
    f"{AT},IN,NONE,MAIN,1,,,,,": "line 2, sku: there is no item 'NONE'",
    f"{AT},IN,GONE,MAIN,1,,,,,": "line 2, sku: there is no item 'GONE'",
    f"{AT},IN,A,NOWHERE,1,,,,,": "line 2, location: there is no location 'NOWHERE'",
    f"{AT},TRANSFER,A,MAIN,1,NOWHERE,,,,": "line 2, to_location: there is no location 'NOWHERE'",
    f"{AT},OUT,A,MAIN,1,,,,,": "line 2, quantity: only 0 of A at MAIN",
    f"{AT},IN,A,MAIN,999999999999,,999999,,,": "line 2, quantity: brings the value beyond",
}


async def test_every_bad_line_is_named_and_nothing_is_posted(load: Load, owner: asyncpg.Connection) -> None:
    await stocked(owner, "A", "GONE")
    await owner.execute("update items set deleted_at = now() where sku = 'GONE'")
    for line, expected in BAD.items():
        (only,) = await refused(load(HEADER + line + "\n"))
        assert only.startswith(expected), (line, only)
    found = await refused(load(HEADER + f"x,y,A,MAIN,z,,w,,,\n{AT},IN,A,MAIN,1,,,,,\n,,,,,,,,x,\n"))
    named = [fault.partition(":")[0] for fault in found]
    assert named == [
        *("line 2, occurred_at", "line 2, type", "line 2, quantity", "line 2, unit_cost"),
        *("line 4, occurred_at", "line 4, type", "line 4, sku", "line 4, location", "line 4, quantity"),
    ]
    many = ",".join(f"c{n}" for n in range(17))
    (found_extras,) = await refused(load(f"occurred_at,type,sku,location,quantity,{many}\n"))
    assert "only 16 can be kept as metadata" in found_extras
    (long_value,) = await refused(
        load(f"occurred_at,type,sku,location,quantity,customer\n{AT},IN,A,MAIN,1,{'x' * 501}\n")
    )
    assert long_value == "line 2, customer: is longer than 500 characters"
    for table in ("stock_ledger", "stock_transactions", "stock_balances", "imports", "audit_log"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0


async def test_each_line_that_takes_too_much_is_named_with_what_was_there(
    load: Load, owner: asyncpg.Connection
) -> None:
    await stocked(owner, "A", "B", places=("MAIN", "OWED-"))
    await load(HEADER + f"{AT},IN,A,MAIN,5,,1,,,\n")
    found = await refused(
        load(
            HEADER + f"{AT},OUT,A,MAIN,4,,,,,\n{AT},OUT,A,MAIN,2,,,,,\n{AT},OUT,A,OWED-,2,,,,,\n"
            f"{AT},OUT,A,MAIN,1,,,,,\n{AT},TRANSFER,B,MAIN,0.5,OWED-,,,,\n",
            batch_size=2,
        )
    )
    assert found == ["line 3, quantity: only 1 of A at MAIN", "line 6, quantity: only 0 of B at MAIN"]
    assert await balance(owner, "A", "MAIN") == "5 5"
    assert await owner.fetchval("select count(*) from stock_ledger") == 1


async def test_a_second_import_is_refused_and_changes_nothing(load: Load, owner: asyncpg.Connection) -> None:
    await stocked(owner, "A")
    content = HEADER + f"{AT},IN,A,MAIN,5,,1,,,\n"
    told: list[tuple[int, int, str]] = []
    await load(content, progress=lambda done, total, phase: told.append((done, total, phase)))
    assert told[-1] == (1, 1, "posting")
    assert [phase for _, _, phase in told] == ["reading", "checking", "posting"]
    (found,) = await refused(load(content))
    assert "imported already: 1 movement from movements.csv" in found
    assert await balance(owner, "A", "MAIN") == "5 5"
    assert await owner.fetchval("select count(*) from audit_log where action = 'import.movements'") == 1


async def test_imports_beside_each_other_and_beside_postings_keep_the_books_right(
    settings: Settings, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    skus = [f"S{n}" for n in range(8)]
    await stocked(owner, *skus, places=("MAIN", "SHOP", "OWED-"))
    expected = 0
    for seed in (1, 2):
        chance = Random(seed)
        drawn = [line | {"sku": chance.choice(skus)} for line in random_lines(chance, 3000)]
        lines = [line for line in drawn if line["location"] == "OWED-"]
        expected += len(lines)
        (tmp_path / f"{seed}.csv").write_text(as_csv(lines))
    importing = asyncio.gather(
        *(
            service.load(settings.database_url, "movements", tmp_path / f"{n}.csv", who=system("test"), batch_size=50)
            for n in (1, 2)
        )
    )

    async def keep_posting(seed: int) -> int:
        chance, posted = Random(seed), 0
        while not importing.done():
            (line,) = random_lines(chance, 1)
            posted += await post(database, line, chance.choice(skus))
        return posted

    posted = await asyncio.gather(*(keep_posting(seed) for seed in range(4)))
    await importing
    assert all(posted)
    await assert_books(owner)
    assert await owner.fetchval("select count(distinct transaction_id) from stock_ledger") == expected + sum(posted)


KILLED = """
import asyncio, sys
from erp_service.imports import service as loading
from erp_service.access.principals import system

def tell(done, total, phase):
    if phase == "posting":
        print("posting", flush=True)

asyncio.run(loading.load(sys.argv[1], "movements", sys.argv[2], who=system("test"), progress=tell))
"""


async def test_an_import_killed_in_the_middle_leaves_nothing(
    settings: Settings, load: Load, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await stocked(owner, "A")
    path = tmp_path / "many.csv"
    path.write_text(HEADER + f"{AT},IN,A,MAIN,1,,1,,,\n" * 60_000)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, settings.database_url, str(path)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"posting\n"
    finally:
        process.kill()
    assert await process.wait() < 0, "it was done before it was killed"
    # waits for the lock of the killed import, if the server still holds it
    content = HEADER + f"{AT},IN,A,MAIN,1,,1,,,\n"
    assert (await load(content)).rows == 1
    assert await balance(owner, "A", "MAIN") == "1 1"
    assert await owner.fetchval("select count(*) from stock_ledger") == 1
    assert await owner.fetchval("select count(*) from stock_transactions") == 1
