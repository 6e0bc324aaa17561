"""`erp verify` finds each way in which counts and their documents can differ, and exports show counts as they are."""

import asyncpg
import httpx
import pytest

from erp_service.inventory.counts.proofs import PROOFS
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from tests.exports.jobs import JOBS, done
from tests.inventory.books import BOLT, post
from tests.inventory.counts.counting import open_count, posted
from tests.support.workers import Work

DOCUMENT = "(select transaction_id from stock_counts where differences = 2)"
SPOILED = {
    "it was not booked": [
        "delete from stock_ledger where origin = 'COUNT' and item_id = 1",
        "update stock_counts set transaction_id = null, differences = 0 where transaction_id is not null",
        "update stock_ledger set origin = null where origin = 'COUNT' and item_id = 1",
        "update stock_count_lines set expected = 7 where counted = expected",
    ],
    "it was booked at another location": [
        "update stock_ledger set location_id = 5 where origin = 'COUNT' and item_id = 1",
        "update stock_counts set location_id = 5 where transaction_id is not null",
    ],
    "it is another line of the document": [
        "update stock_count_lines set document_line = 3 where document_line = 1",
        "update stock_count_lines set document_line = null where document_line = 1",
        "update stock_ledger set line = 3 where origin = 'COUNT' and line = 1",
    ],
    "something else was booked": [
        "update stock_ledger set quantity = quantity - 0.000001 where origin = 'COUNT' and item_id = 1",
        "update stock_count_lines set counted = 7 where document_line = 1",
        "update stock_count_lines set expected = 11 where document_line = 1",
    ],
    "the count has no such difference": [
        "delete from stock_count_lines where document_line = 1",
        "update stock_count_lines set expected = counted, document_line = null where document_line = 1",
    ],
    "the audit log names another document of it": [
        "delete from stock_counts where transaction_id is not null",
        "update stock_counts set status = 'CANCELED', differences = null where differences = 0",
        "update stock_counts set transaction_id = null, differences = 0 where transaction_id is not null",
        "update stock_counts set transaction_id = (select id from stock_transactions limit 1) where differences = 2",
    ],
    "the number of its differences is another": [
        "update stock_counts set differences = 1 where differences = 2",
        "update stock_count_lines set expected = 7 where counted = expected",
    ],
    "its document has entries that are not of a count": [
        "update stock_ledger set origin = 'REVERSAL' where origin = 'COUNT' and item_id = 1",
        f"update stock_ledger set transaction_id = {DOCUMENT} where entry_type = 'IN'",
    ],
}


@pytest.fixture
async def counts(shelves: asyncpg.Connection, admin: httpx.AsyncClient) -> asyncpg.Connection:
    """A count with two differences, one that was missing below zero and is settled, and others without any."""
    await post(admin, "in", **BOLT, quantity="10", unit_cost="5")
    await post(admin, "out", sku="NUT", location="YARD-", quantity="3")
    await posted(admin, await open_count(admin, BOLT="8", NUT="2"))
    await posted(admin, await open_count(admin, "YARD-", NUT="1"))
    await posted(admin, await open_count(admin, BOLT="8"))
    await open_count(admin, BOLT="1")
    return shelves


async def test_each_way_to_spoil_a_count_is_found(counts: asyncpg.Connection) -> None:
    (proof,) = PROOFS
    for fault, statement in ((fault, statement) for fault, many in SPOILED.items() for statement in many):
        assert await counts.fetch(proof.rows) == []
        transaction = counts.transaction()
        await transaction.start()
        await counts.execute("set local session_replication_role = replica")  # without triggers and foreign keys
        assert (await counts.execute(statement)).split()[-1] != "0", f"nothing was spoiled: {statement}"
        assert fault in {row["fault"] for row in await counts.fetch(proof.rows)}, statement
        await transaction.rollback()


async def test_verify_checks_counts(counts: asyncpg.Connection, settings: Settings) -> None:
    assert await verify(settings, PROOFS) == []


async def test_export_has_each_line_with_the_value_of_its_difference(
    counts: asyncpg.Connection, admin: httpx.AsyncClient, work: Work
) -> None:
    """With the settlement of what was sold too early."""
    columns = ["location", "status", "sku", "counted", "expected", "difference", "value"]
    async with work():
        job = await done(admin, "counts", columns=columns)
        one = await done(admin, "counts", filter={"status": "POSTED", "location": "YARD-", "sku": "NUT"})
    assert one["result"]["rows"] == 1
    file = (await admin.get(f"{JOBS}/{job['id']}/download")).text
    assert file.splitlines() == [
        ",".join(columns),
        "MAIN,POSTED,BOLT,8,10,-2,-10",
        "MAIN,POSTED,BOLT,8,8,0,0",
        "MAIN,OPEN,BOLT,1,8,-7,",
        "MAIN,POSTED,NUT,2,0,2,0",
        "YARD-,POSTED,NUT,1,-3,4,0",
    ]


async def test_only_staff_exports_counts(viewer: httpx.AsyncClient) -> None:
    assert (await viewer.post(JOBS, json={"dataset": "counts"})).status_code == 403
