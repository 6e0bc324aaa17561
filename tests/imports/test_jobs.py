"""Imports over HTTP: a file becomes a job, and a worker loads all of it, or nothing."""

import gzip

import asyncpg
import httpx
import pytest
import zstandard

from tests.exports.jobs import done as exported
from tests.imports.jobs import ITEMS, JOBS, LOCATIONS, MOVEMENTS, QUEUES, done, ended, submitted
from tests.imports.loading import emptied
from tests.support.workers import EXPORT_QUEUES, Work


async def loaded(admin: httpx.AsyncClient) -> None:
    """The items and locations of MOVEMENTS."""
    assert (await done(admin, "items", ITEMS))["status"] == "succeeded"
    assert (await done(admin, "locations", LOCATIONS))["status"] == "succeeded"


async def test_files_are_loaded_by_a_worker(
    admin: httpx.AsyncClient, staff: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    async with work(queues=QUEUES):
        await loaded(admin)
        job = await done(staff, "movements", MOVEMENTS, headers={"Content-Disposition": 'attachment; filename="m.csv"'})
    assert job["status"] == "succeeded", job
    assert job["result"]["rows"] == job["result"]["created"] == 3
    assert job["progress"]["percent"] == 100
    assert job["filename"] == "m.csv"
    assert await owner.fetchval("select sum(on_hand) from stock_balances") == 11
    assert {u for (u,) in await owner.fetch("select distinct user_id from stock_ledger")} == {job["created_by"]}
    entry = await owner.fetchrow("select * from audit_log where action = 'import.movements'")
    assert entry["user_id"] == job["created_by"]
    assert await owner.fetchval("select count(*) from audit_log where action = 'import.movements'") == 1


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
async def test_compressed_files_are_unpacked(admin: httpx.AsyncClient, work: Work, packed: str) -> None:
    body = gzip.compress(ITEMS.encode()) if packed == "gzip" else zstandard.compress(ITEMS.encode())
    async with work(queues=QUEUES):
        assert (await done(admin, "items", body, headers={"Content-Encoding": packed}))["result"]["rows"] == 2
        again = await done(admin, "items", body, headers={"Content-Type": "application/octet-stream"})
    assert again["status"] == "failed"
    assert "imported already" in again["error"]["detail"]


async def test_a_dry_run_names_every_bad_line_and_keeps_nothing(
    admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    bad = (
        MOVEMENTS + "2026-01-03,IN,A,MAIN,1,,\n2026-01-03T10:00:00Z,IN,C,MAIN,=1+1,,\n2026-01-03T10:00:00Z,IN,C,X,1,,\n"
    )
    async with work(queues=QUEUES):
        await loaded(admin)
        job = await done(admin, "movements", bad, dry_run=True)
        fine = await done(admin, "movements", MOVEMENTS, dry_run=True)
    assert job["status"] == "failed"
    assert job["error"]["type"].endswith("/import-refused")
    assert [(f["line"], f["column"]) for f in job["faults"]] == [
        (5, "occurred_at"),
        (6, "quantity"),
        (7, "sku"),
        (7, "location"),
    ]
    assert job["error"]["total"] == 4
    assert job["faults"][0]["value"] == "2026-01-03"
    report = await admin.get(job["links"]["report"])
    assert report.status_code == 200
    lines = report.text.splitlines()
    assert lines[0] == "line,column,value,detail"
    assert len(lines) == 5
    assert "'=1+1" in lines[2]
    assert fine["status"] == "succeeded"
    assert fine["result"]["created"] == 3
    assert "undo" not in fine["links"]
    assert await owner.fetchval("select count(*) from stock_ledger") == 0
    assert await owner.fetchval("select count(*) from imports where kind = 'movements'") == 0


async def test_json_lines_are_read(admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection) -> None:
    lines = (
        '{"sku": "A", "name": "Apples", "unit": "KGM", "reorder_point": 2.50}\n{"sku":"B","name":"Brød","unit":"PCS"}\n'
    )
    async with work(queues=QUEUES):
        job = await done(admin, "items", lines, headers={"Content-Type": "application/x-ndjson"})
    assert job["status"] == "succeeded", job
    assert [tuple(row) for row in await owner.fetch("select sku, name from items order by sku")] == [
        ("A", "Apples"),
        ("B", "Brød"),
    ]


async def test_an_import_is_undone_once(admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection) -> None:
    async with work(queues=QUEUES):
        await loaded(admin)
        job = await done(admin, "movements", MOVEMENTS)
        answer = await admin.post(job["links"]["undo"], json={"reason": "the wrong file"})
        assert answer.status_code == 202, answer.text
        undone = await ended(admin, answer.json())
        assert undone["status"] == "succeeded", undone
        assert undone["undo_of"] == job["id"]
        assert await owner.fetchval("select sum(on_hand) from stock_balances") == 0
        assert (await admin.post(job["links"]["undo"], json={"reason": "again"})).status_code == 409
        shown = (await admin.get(f"{JOBS}/{job['id']}")).json()
        assert "undo" not in shown["links"]
        assert (await done(admin, "movements", MOVEMENTS))["status"] == "succeeded"
    assert await owner.fetchval("select sum(on_hand) from stock_balances") == 11


async def test_the_same_key_submits_once(admin: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "a-key"}
    first = await submitted(admin, "items", ITEMS, headers=key)
    second = await submitted(admin, "items", ITEMS, headers=key)
    assert first["id"] == second["id"]
    other = await admin.post(
        JOBS, params={"dataset": "items"}, content=b"sku\n", headers={**key, "Content-Type": "text/csv"}
    )
    assert other.status_code == 422
    assert other.json()["type"].endswith("/idempotency-key-reused")


async def test_upsert_updates_what_exists_and_creates_the_rest(
    admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    await owner.execute("insert into items (sku, name, unit, description, metadata) values"
                        " ('A', 'Apples', 'KGM', 'red', '{\"colour\": \"red\", \"shelf\": \"7\"}')")  # fmt: skip
    changed = "sku,name,unit,colour\nA,Pears,KGM,green\nB,Bread,PCS,\n"
    async with work(queues=QUEUES):
        only_known = await done(admin, "items", changed, mode="update")
        first = await done(admin, "items", changed, mode="upsert")
        second = await done(admin, "items", changed, mode="upsert")
    assert only_known["status"] == "failed"
    assert [(f["line"], f["column"]) for f in only_known["faults"]] == [(3, "sku")]
    assert first["status"] == "succeeded", first
    assert [first["result"][name] for name in ("created", "updated", "unchanged")] == [1, 1, 0]
    assert [second["result"][name] for name in ("created", "updated", "unchanged")] == [0, 0, 2]
    item = await owner.fetchrow("select * from items where sku = 'A'")
    assert (item["name"], item["description"], item["version"]) == ("Pears", "red", 2)
    assert item["metadata"] == '{"shelf": "7", "colour": "green"}'
    entry = await owner.fetchrow("select * from audit_log where action = 'item.updated'")
    assert entry["user_id"] == first["created_by"]


async def test_upsert_of_locations_moves_them(admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection) -> None:
    await owner.execute("insert into locations (code, name, location_type, address) values"
                        " ('MAIN', 'Main', 'WAREHOUSE', 'Here'), ('BIN', 'Bin', 'BIN', null)")  # fmt: skip
    rows = "code,name,location_type,parent\nMAIN,Main,WAREHOUSE,\nNEW,New,ZONE,MAIN\nBIN,Bin,BIN,NEW\n"
    async with work(queues=QUEUES):
        job = await done(admin, "locations", rows, mode="upsert")
    assert job["status"] == "succeeded", job
    assert [job["result"][name] for name in ("created", "updated", "unchanged")] == [1, 1, 1]
    parents = await owner.fetch(
        "select c.code, p.code, c.address from locations c left join locations p on p.id = c.parent_id order by 1"
    )
    assert [tuple(row) for row in parents] == [("BIN", "NEW", None), ("MAIN", None, "Here"), ("NEW", "MAIN", None)]


async def test_a_rule_of_single_requests_refuses_an_update(
    admin: httpx.AsyncClient, staff: httpx.AsyncClient, work: Work
) -> None:
    async with work(queues=QUEUES):
        await loaded(admin)
        await done(staff, "movements", MOVEMENTS)
        job = await done(admin, "items", "sku,name,unit\nA,Apples,LTR\n", mode="upsert")
    assert job["status"] == "failed"
    assert job["faults"][0]["line"] == 2
    assert "unit" in job["faults"][0]["detail"]


async def test_37_bad_lines_are_all_named_and_the_mended_file_loads_once(
    admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    """A small form of what tests/real does with a whole year."""
    lines = [f"2026-01-01T10:00:00Z,IN,{'AB'[n % 2]},MAIN,1,1,R{n // 20}" for n in range(3_000)]
    wrong = [(4, "many"), (2, "C"), (0, "yesterday"), (1, "LOST"), (3, "?")]
    bad, numbers = list(lines), set[int]()
    for count in range(37):
        index, (column, value) = count * 80, wrong[count % len(wrong)]
        cells = bad[index].split(",")
        cells[column] = value
        bad[index], numbers = ",".join(cells), numbers | {index + 2}
    header = MOVEMENTS.splitlines()[0]
    async with work(queues=QUEUES):
        await loaded(admin)
        tried = await done(admin, "movements", "\n".join([header, *bad, ""]), dry_run=True)
        assert {fault["line"] for fault in tried["faults"]} == numbers
        assert len(numbers) == 37
        assert await owner.fetchval("select count(*) from stock_ledger") == 0
        mended = "\n".join([header, *lines, ""])
        assert (await done(admin, "movements", mended))["status"] == "succeeded"
        assert "imported already" in (await done(admin, "movements", mended))["error"]["detail"]
    assert await owner.fetchval("select count(*) from stock_ledger") == 3_000


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
async def test_own_exports_come_back_in(
    admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection, format_: str
) -> None:
    datasets = {"items": "items", "locations": "locations", "movements": "stock_movements"}
    transfer = "occurred_at,type,sku,location,quantity,to_location\n2026-01-03T10:00:00Z,TRANSFER,A,MAIN,2,SHOP\n"
    stock = (
        "select sku, code, b.on_hand, v.value from stock_balances b join items i on i.id = item_id"
        " join locations l on l.id = location_id join stock_values v using (item_id) order by 1, 2"
    )
    async with work(queues=[*QUEUES, *EXPORT_QUEUES]):
        await loaded(admin)
        await done(admin, "locations", "code,name,location_type,parent\nSHOP,Shop,ZONE,MAIN\n")
        await done(admin, "movements", MOVEMENTS)
        await done(admin, "movements", transfer)
        before = await owner.fetch(stock)
        files = {}
        for dataset, name in datasets.items():
            job = await exported(admin, name, format=format_)
            files[dataset] = (await admin.get(job["links"]["download"])).content
        await owner.execute("truncate import_jobs")
        await emptied(owner)
        for dataset, content in files.items():
            job = await done(admin, dataset, content)
            assert job["status"] == "succeeded", job
    assert await owner.fetch(stock) == before


async def test_an_undo_is_refused_with_the_reason_if_the_stock_is_not_there(
    admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    async with work(queues=QUEUES):
        await loaded(admin)
        job = await done(admin, "movements", MOVEMENTS)
        issue = {"sku": "B", "location": "MAIN", "quantity": 5}
        assert (await admin.post("/api/v1/inventory/stock/out", json=issue)).status_code == 201
        answer = await admin.post(job["links"]["undo"], json={"reason": "the wrong file"})
        refused = await ended(admin, answer.json())
        assert refused["status"] == "failed"
        assert "5 of B wanted at MAIN, 0 available" in refused["error"]["detail"]
        assert await owner.fetchval("select count(*) from stock_transactions where reverses is not null") == 0
        assert await owner.fetchval("select count(*) from imports where undone_at is not null") == 0
        items = (await admin.get(JOBS, params={"dataset": "items"})).json()["items"][0]
        nothing = await admin.post(f"{JOBS}/{items['id']}/undo", json={"reason": "why not"})
    assert nothing.status_code == 409
    assert "one by one" in nothing.json()["detail"]
