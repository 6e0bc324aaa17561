"""Files of items that exist: the modes update and upsert."""

import asyncpg
import pytest

from tests.imports.loading import Load, refused
from tests.support.statements import sent_statements

HEADER = "sku,name,unit"
OTHERS = "".join(f"S{n:04},Thing {n},pcs\n" for n in range(1_100))


async def test_every_refused_line_is_named_with_all_that_is_wrong_in_whichever_batch_it_is(
    load: Load, owner: asyncpg.Connection
) -> None:
    """The first refusal hid those of later lines."""
    ours = "A,Mug,pcs,\nB,Bowl,pcs,\nC,Pot,pcs,\nD,Jug,pcs,\nGONE,Cup,pcs,\n"
    await load("items", f"{HEADER},barcode\nX,Vase,pcs,111\nY,Lamp,pcs,222\n{ours}")
    await load("items", f"{HEADER}\n{OTHERS}")
    await load("locations", "code,name,location_type\nMAIN,Main,WAREHOUSE\n")
    movements = "".join(f"2026-01-01T10:00:00Z,IN,{sku},MAIN,1.25,1\n" for sku in "ABD")
    await load("movements", f"occurred_at,type,sku,location,quantity,unit_cost\n{movements}")
    await owner.execute("update items set deleted_at = now() where sku = 'GONE'")
    content = (
        f"{HEADER},decimals,barcode\nA,Mug,KGM,1,\nGONE,Cup,pcs,,\n"
        + OTHERS.replace(",pcs", ",pcs,,")
        + "B,Bowl,pcs,0,\nC,Pot,pcs,,111\nD,Jug,l,,222\nNEW,New,pcs,,\n"
    )
    assert await refused(load("items", content, mode="update")) == [
        "line 2, unit: must stay pcs, the unit of its ledger entries",
        "line 2, decimals: must be 2 at least",
        "line 3, sku: the item 'GONE' is deleted: restore it first",
        "line 1104, decimals: must be 2 at least",
        "line 1105, barcode: is that of item 1, X",
        "line 1106, unit: must stay pcs, the unit of its ledger entries",
        "line 1106, barcode: is that of item 2, Y",
        "line 1107, sku: there is no item 'NEW', and the mode update creates none",
    ]
    assert await owner.fetchval("select count(*) from items where version > 1 or unit <> 'pcs'") == 0
    assert await owner.fetchval("select count(*) from audit_log where action = 'item.updated'") == 0


async def test_a_thousand_items_are_changed_by_as_many_statements_as_one(load: Load, owner: asyncpg.Connection) -> None:
    await load("items", f"{HEADER}\n{OTHERS}")
    counts = []
    for rows in (1, 1_000):
        content = "".join(f"S{n:04},Another name {rows},pcs\n" for n in range(rows))
        with sent_statements() as sent:
            loaded = await load("items", f"{HEADER}\n{content}", mode="update")
        assert (loaded.updated, loaded.unchanged) == (rows, 0)
        counts.append(len(sent))
    assert counts[0] == counts[1]
    first, *_ = await owner.fetch("select * from audit_log where action = 'item.updated' order by id desc limit 1000")
    assert '"name": "Another name 1000"' in first["after"]
    assert '"name": "Thing 999"' in first["before"]
    assert await owner.fetchval("select count(*) from audit_log where action = 'item.updated'") == 1_001


async def test_a_row_that_says_nothing_new_leaves_no_trace(load: Load, owner: asyncpg.Connection) -> None:
    await load("items", f"{HEADER},colour\nA,Mug,pcs,blue\nB,Bowl,pcs,\n")
    loaded = await load("items", f"{HEADER},colour\nA,Mug,pcs,blue\nB,Bowl,pcs,red\nC,Pot,pcs,\n", mode="upsert")
    assert (loaded.created, loaded.updated, loaded.unchanged) == (1, 1, 1)
    versions = await owner.fetch("select sku, version from items order by sku")
    assert [tuple(row) for row in versions] == [("A", 1), ("B", 2), ("C", 1)]
    assert await owner.fetchval("select count(*) from audit_log where action = 'item.updated'") == 1


@pytest.mark.parametrize(("kind", "header"), [("items", HEADER), ("locations", "code,name,location_type")])
async def test_files_with_other_columns_do_not_give_more_metadata_than_a_body_may_have(
    load: Load, owner: asyncpg.Connection, kind: str, header: str
) -> None:
    """A file has no more than 16 columns of its own, but what is there stays."""
    row = "A,Mug,pcs" if kind == "items" else "A,Hall,ZONE"
    for first in (0, 8):
        names = ",".join(f"c{n}" for n in range(first, first + 8))
        await load(kind, f"{header},{names}\n{row}{',x' * 8}\n", mode="upsert")
    (fault,) = await refused(load(kind, f"{header},one,two\n{row},x,x\n", mode="update"))
    assert fault == "line 2, metadata: would have 18 members with those that it has, and the most are 16"
    await load(kind, f"{header},c1,two\n{row},,x\n", mode="update")
    members = await owner.fetchval(f"select count(*) from {kind}, jsonb_object_keys(metadata)")
    assert members == 16
