"""A database in use moves from PostgreSQL 15 to the embedded one: nothing is lost or doubled, and seconds pass."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from erp_service.operations.verify import verify
from erp_service.settings import Settings
from tests.acceptance.instances import worker
from tests.support.databases import as_owner, connected, value_of
from tests.support.waiting import eventually
from tests.upgrade.company import API, PEOPLE, Instance, Trade
from tests.upgrade.servers import Servers


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20) as client:
        yield client


async def test_company_moves_to_a_newer_major_version_while_it_trades(
    servers: Servers, name: str, old: Settings, new: Settings, token: str, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    client.headers["Authorization"] = f"Bearer {token}"
    first, second, third = (Instance(tmp_path, number) for number in range(3))
    async with contextlib.AsyncExitStack() as stack:
        for instance in (first, second, third):
            stack.push_async_callback(instance.close)
        await asyncio.gather(first.start(old), second.start(old))
        await make_goods(client, first.url)
        async with Trade([first.url, second.url], token).going_on() as trade:
            async with worker(old, tmp_path / "worker-old.log"):
                export = await exported(client, first.url)
                file = await downloaded(client, first.url, export)
                followed = await asyncio.to_thread(servers.done, "follow", name)
                sys.stderr.write(followed.log)
                # reads the new database, and is refused what it would write, until the switch
                await third.start(new)
                assert (await post(client, third.url)).status_code == 503
                await trade.posted(40)
                assert (await asyncio.to_thread(servers.done, "status", name)).result["state"] == "FOLLOWING"
                switched = await asyncio.to_thread(servers.done, "switch", name)
                trade.urls = [third.url]
            sys.stderr.write(switched.log)
            await trade.posted(40)
            await asyncio.gather(first.restart(new), second.restart(new))
            trade.urls = [first.url, second.url, third.url]
            await trade.posted(40)
            async with worker(new, tmp_path / "worker-new.log"):
                assert await downloaded(client, second.url, export) == file
                again = await exported(client, second.url)
                assert (await downloaded(client, first.url, again)).count(b"\n") > file.count(b"\n")
        sys.stderr.write(
            f"paused {switched.result['paused_seconds']} s in the database; the longest wait of a posting"
            f" {trade.longest_wait:.2f} s, of a reader {trade.longest_read:.2f} s; {len(trade.acknowledged)} posted,"
            f" answers {trade.statuses}, {trade.read_failures} of {trade.reads} reads failed\n"
        )
        async with connected(servers.new.owner_url(name)) as db:
            await every_receipt_is_there_once(db, trade)
            assert await db.fetchval("show server_version_num") >= "180000"
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await as_owner(servers.old, "update items set name = name", database=name)
        await asyncio.to_thread(servers.done, "finish", name)
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await value_of(servers.old, "select 1", name)
        assert await value_of(servers.old, "select count(*) from pg_replication_slots") == 0
        assert await value_of(servers.new, "select count(*) from pg_subscription") == 0
        assert (await post(client, first.url)).status_code == 201
    assert await verify(new) == []


async def make_goods(client: httpx.AsyncClient, url: str) -> None:
    for number in range(PEOPLE):
        item = {"sku": f"ITEM-{number}", "name": f"Ärmel {number}", "unit": "PCS"}
        assert (await client.post(f"{url}{API}/inventory/items", json=item)).status_code == 201
    location = {"code": "SHOP", "name": "The shop", "location_type": "WAREHOUSE"}
    assert (await client.post(f"{url}{API}/inventory/locations", json=location)).status_code == 201


async def post(client: httpx.AsyncClient, url: str) -> httpx.Response:
    body = {"sku": "ITEM-0", "location": "SHOP", "quantity": "1", "unit_cost": "2"}
    return await client.post(f"{url}{API}/inventory/stock/in", json=body)


async def exported(client: httpx.AsyncClient, url: str) -> str:
    """The id of an export of the ledger, when it is ready."""
    jobs = f"{url}{API}/exports/jobs"
    submitted = await client.post(jobs, json={"dataset": "stock_movements", "force_new": True})
    assert submitted.status_code == 202, submitted.text
    export = str(submitted.json()["id"])

    async def ready() -> bool:
        status = (await client.get(f"{jobs}/{export}")).json()["status"]
        assert status in ("queued", "running", "succeeded"), status
        return bool(status == "succeeded")

    await eventually(ready, seconds=60)
    return export


async def downloaded(client: httpx.AsyncClient, url: str, export: str) -> bytes:
    answer = await client.get(f"{url}{API}/exports/jobs/{export}/download")
    assert answer.status_code == 200, answer.text
    return answer.content


async def every_receipt_is_there_once(db: asyncpg.Connection, trade: Trade) -> None:
    rows = await db.fetch(
        "select reference_no, id::text from stock_ledger where reference_no = any($1)",
        list(trade.acknowledged),
    )
    assert len(rows) == len(trade.acknowledged)
    assert {row[0]: row[1] for row in rows} == trade.acknowledged
    assert await db.fetchval("select count(*) from stock_ledger") == len(trade.acknowledged)
    highest = "select (select max(id) from stock_ledger) <= (select last_value from stock_ledger_id_seq)"
    assert await db.fetchval(highest)
