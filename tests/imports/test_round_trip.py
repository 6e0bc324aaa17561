"""Exports of items, locations and movements are imported again as they are, and exported again they are the same."""

import csv
import io
from typing import Any

import asyncpg
import msgspec

from erp_service import validation
from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.exports.formats.csv_format import CSV
from erp_service.exports.formats.csv_options import CsvOptions
from erp_service.imports.files.dialect import Dialect
from erp_service.imports.service import Kind
from erp_service.inventory.datasets import ITEMS, LOCATIONS, STOCK_MOVEMENTS
from erp_service.inventory.posting import reversal
from erp_service.inventory.posting.schemas import Reversal
from erp_service.registry.datasets import Dataset
from tests.imports.loading import Load, emptied, refused
from tests.inventory.books import assert_books

AT = "2026-01-15T12:00:00Z"
MADE_ANEW = {"reverses_id", "id", "parent_id", "created_at", "updated_at", "recorded_at", "user_id"}


async def exported(owner: asyncpg.Connection, dataset: Dataset, order: str = "", **options: Any) -> str:
    """The dataset as the service exports it: all columns, by its key."""
    given = CsvOptions(**options)
    query = f"select {CSV.select(dataset.columns, given)} from {dataset.source} order by {order or dataset.key[0]}"
    content = io.BytesIO()
    await owner.copy_from_query(query, output=content, **CSV.copy(given))
    header = given.delimiter.join(column.name for column in dataset.columns)
    return f"{header}\n{content.getvalue().decode()}"


def rows(content: str) -> list[dict[str, str]]:
    """Without what belongs to one database only."""
    read = csv.DictReader(io.StringIO(content, newline=""))
    return [{name: text for name, text in row.items() if name not in MADE_ANEW} for row in read]


async def a_company(load: Load) -> None:
    await load(
        "items",
        "sku,name,unit,status,description,reorder_point,decimals,units,barcode,external_id,supplier\n"
        'A,"Mug, ""blue""",pcs,ACTIVE,"two\nlines",2.5,0,'
        '"[{""unit"": ""case"", ""numerator"": 12, ""denominator"": 1}]",0012345678905,shop/1,"Acme, ""Ltd"""\n'
        "B,Küche,kg,INACTIVE,,,,,,,\nC,Plate,pcs,DISCONTINUED,,,,,,,Müller\n",
    )
    await load(
        "locations",
        "code,name,location_type,address,parent,allow_negative_stock,external_id,floor\n"
        "BIN-1,Bin,BIN,,MAIN,,bin/1,2\nMAIN,Main,WAREHOUSE,1 High St,,,,\nOWED,Owed,ZONE,,,yes,,0\n",
    )
    await load(
        "movements",
        "occurred_at,type,sku,location,quantity,to_location,unit_cost,total_cost,reference_no,notes,reason,customer\n"
        f"{AT},IN,A,MAIN,24,,,37.00,PO-1,,,\n{AT},IN,B,MAIN,3,,1.2345,,PO-1,,,\n"
        f"{AT},TRANSFER,A,MAIN,7,BIN-1,,,TR-1,,,\n{AT},TRANSFER,A,BIN-1,2,OWED,,,TR-1,,,\n"
        f'{AT},OUT,A,OWED,5,,,,,"by ""hand""",,Lumen\n{AT},IN,A,OWED,4,,2,,,,,\n{AT},IN,A,MAIN,1,,,,,,,\n'
        f"{AT},ADJUSTMENT,B,MAIN,-0.5,,,,,,broken,\n{AT},ADJUSTMENT,B,MAIN,0.25,,,,,,,\n"
        f"{AT},OUT,B,OWED,4,,,,,,,\n{AT},IN,B,OWED,5,,3,,,,,\n",
        Dialect(history=True),
    )


async def test_exports_are_imported_again_as_they_are(load: Load, owner: asyncpg.Connection) -> None:
    """Transfers are two entries of an export, and stock below zero has settlements, which no movement states."""
    await a_company(load)
    datasets: dict[Kind, Dataset] = {"items": ITEMS, "locations": LOCATIONS, "movements": STOCK_MOVEMENTS}
    before = {kind: await exported(owner, dataset) for kind, dataset in datasets.items()}
    balances = "select item_id, location_id, b.on_hand, v.on_hand, v.value from stock_balances b"
    balances += " join stock_values v using (item_id) order by 1, 2"
    held = await owner.fetch(balances)
    await emptied(owner)
    for kind, content in before.items():
        await load(kind, content, Dialect(history=True))
    for kind, dataset in datasets.items():
        assert rows(await exported(owner, dataset)) == rows(before[kind]), kind
    assert await owner.fetch(balances) == held
    assert await owner.fetchval("select count(*) from stock_ledger where quantity = 0") > 0
    await assert_books(owner)


async def test_an_export_for_spreadsheets_is_imported_again(load: Load, owner: asyncpg.Connection) -> None:
    await a_company(load)
    before = await exported(owner, STOCK_MOVEMENTS)
    german: dict[str, Any] = {"delimiter": ";", "decimal_comma": True}
    newest_first = await exported(owner, STOCK_MOVEMENTS, "e.id desc", **german)
    items, locations = await exported(owner, ITEMS, **german), await exported(owner, LOCATIONS, **german)
    await emptied(owner)
    dialect = Dialect(decimal_comma=True, history=True)
    await load("items", items, dialect)
    await load("locations", locations, dialect)
    order, *_ = await refused(load("movements", newest_first, dialect))
    assert "--sort id" in order
    await load("movements", newest_first, Dialect(decimal_comma=True, history=True, sort="id"))
    assert rows(await exported(owner, STOCK_MOVEMENTS)) == rows(before)


async def test_reversals_come_back_at_the_value_that_they_had(
    load: Load, owner: asyncpg.Connection, database: Database
) -> None:
    """At moving average they would be worth something else."""
    await a_company(load)
    body = msgspec.convert({"reason": "wrong price"}, Reversal, dec_hook=validation.read_hook)
    async with database.write() as db:
        document = await owner.fetchval("select transaction_id from stock_ledger where reference_no = 'TR-1' limit 1")
        await reversal.reverse(db, system("test"), document, body)
    before = await exported(owner, STOCK_MOVEMENTS)
    assert "wrong price" in before
    masters = await exported(owner, ITEMS), await exported(owner, LOCATIONS)
    await emptied(owner)
    await load("items", masters[0])
    await load("locations", masters[1])
    await load("movements", before, Dialect(history=True))
    assert rows(await exported(owner, STOCK_MOVEMENTS)) == rows(before)
    await assert_books(owner)


async def test_an_export_is_not_posted_twice_into_the_database_that_it_came_from(
    load: Load, owner: asyncpg.Connection
) -> None:
    await a_company(load)
    content = await exported(owner, STOCK_MOVEMENTS)
    count = await owner.fetchval("select count(*) from stock_ledger")
    (found,) = await refused(load("movements", content, Dialect(history=True)))
    assert found.startswith("The movements of a document are posted already")
    assert await owner.fetchval("select count(*) from stock_ledger") == count


async def test_what_an_export_cannot_be_imported_with_is_named(load: Load, owner: asyncpg.Connection) -> None:
    await a_company(load)
    await owner.execute("update items set deleted_at = now() where sku = 'C'")
    items, locations = await exported(owner, ITEMS), await exported(owner, LOCATIONS)
    movements = list(csv.reader(io.StringIO(await exported(owner, STOCK_MOVEMENTS), newline="")))
    await emptied(owner)
    assert await refused(load("items", items)) == ["line 5, deleted_at: the item is deleted: leave its row out"]
    without_parent = "\n".join(
        ",".join(cells[:6] + cells[7:]) for cells in csv.reader(io.StringIO(locations, newline=""))
    )
    (parent,) = await refused(load("locations", without_parent))
    assert parent == "line 2, parent_id: ids are those of another database: export the column parent, too"
    kinds = [row[3] for row in movements]
    one_end = [row for number, row in enumerate(movements) if number != kinds.index("TRANSFER_IN")]
    signs = [*movements[:1], [cell.lstrip("-") for cell in movements[kinds.index("OUT")]]]
    for changed, expected in (
        (one_end, "transaction_type: the other end of the transfer is missing"),
        (signs, "quantity: its sign fits neither the type nor the value"),
    ):
        written = io.StringIO()
        csv.writer(written).writerows(changed)
        faults = await refused(load("movements", written.getvalue(), Dialect(history=True)))
        # no item and no location is there, which is named as well
        (only,) = (fault for fault in faults if "there is no " not in fault)
        assert expected in only
