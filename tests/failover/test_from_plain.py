"""A stack in use goes from one server to three under Patroni, and back, as ops/ha.md says, while clients post.

What was acknowledged is there in the end, once; and the time that nobody could post is printed."""

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.containers.clients import Load
from tests.containers.stack import CommandFailed, Stack
from tests.support.waiting import eventually

PROJECT = "erpplain"
FRONT_SUBNET = "10.89.175.0/24"
SOME = 30
"""Postings: enough to say that clients are served."""


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """The plain profile, with an owner and what clients post to."""
    stack = Stack(os.environ["ERP_TEST_IMAGE"], tmp_path, project=PROJECT, front_subnet=FRONT_SUBNET)
    stack.env |= {"COMPOSE_PROFILES": "", "ERP_PATRONI_IMAGE": os.environ["ERP_TEST_PATRONI_IMAGE"]}
    await stack.down()
    try:
        await stack.up()
        await eventually(stack.answers, seconds=300)
        await stack.make_owner()
        headers = {"Authorization": f"Bearer {await stack.sign_in()}"}
        async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as client:
            for number in range(4):
                body = {"sku": f"LOAD-{number}", "name": f"Posted {number}", "unit": "PCS"}
                assert (await client.post("/api/v1/inventory/items", json=body)).status_code == 201
            place = {"code": "LOAD", "name": "Where clients post", "location_type": "WAREHOUSE"}
            assert (await client.post("/api/v1/inventory/locations", json=place)).status_code == 201
        yield stack
    finally:
        await stack.down()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def told(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\nfrom plain: {line}\n")

    return told


async def more_posted(load: Load) -> None:
    before = load.posted.total()

    async def more() -> bool:
        return load.posted.total() >= before + SOME

    await eventually(more, seconds=120)


async def members(stack: Stack) -> list[dict[str, Any]]:
    (db1,) = await stack.containers("db1")
    listed: list[dict[str, Any]] = json.loads(await stack.inside(db1, "patronictl", "list", "--format", "json"))
    return listed


async def on_hand(stack: Stack, container: str) -> int:
    """What that server has, of all that the clients post."""
    statement = (
        "select coalesce(sum(on_hand), 0)::bigint from items join stock_balances on item_id = id where sku ~ '^LOAD-'"
    )
    return int(await stack.inside(container, "psql", "-U", "postgres", "-d", "erp", "-Atqc", statement))


async def longest_pause(stack: Stack) -> float:
    """In seconds, between two postings that were recorded."""
    statement = (
        "select max(extract(epoch from gap)) from"
        " (select recorded_at - lag(recorded_at) over (order by recorded_at) as gap from stock_ledger) gaps"
    )
    (db,) = await stack.containers("db") or await stack.containers("db1")
    return float(await stack.inside(db, "psql", "-U", "postgres", "-d", "erp", "-Atqc", statement))


async def test_a_stack_in_use_goes_to_three_servers_and_back(stack: Stack, say: Callable[[str], None]) -> None:
    load = Load(stack.url, await stack.sign_in(), patient=True)
    async with load.going_on(posters=4, readers=2, downloaders=0):
        await more_posted(load)
        with pytest.raises(CommandFailed, match="COMPOSE_PROFILES=ha"):
            await stack.run("ops/ha/from-plain")

        stack.env |= {"COMPOSE_PROFILES": "ha", "ERP_DB": "0"}
        await stack.run("ops/ha/from-plain", seconds=1200)
        await more_posted(load)
        assert not await stack.containers("db", running=False)
        assert sorted((one["Member"], one["Role"]) for one in await members(stack)) == [
            ("db1", "Leader"), ("db2", "Quorum Standby"), ("db3", "Quorum Standby"),
        ]  # fmt: skip
        (db1,) = await stack.containers("db1")
        await stack.inside(db1, "patroni", "--validate-config", "--ignore-listen-port", "/tmp/patroni.json")
        posted = load.posted.total()
        for name in [*await stack.containers("db2"), *await stack.containers("db3")]:

            async def has_it(name: str = name) -> bool:
                return await on_hand(stack, name) >= posted

            await eventually(has_it)
        say(f"nobody could post for {await longest_pause(stack):.1f} s on the way there")

        stack.env |= {"COMPOSE_PROFILES": "", "ERP_DB": "1"}
        await stack.run("ops/ha/to-plain", seconds=1200)
        await more_posted(load)
        say(f"for {await longest_pause(stack):.1f} s on the longer of the two ways")

    assert load.failures == []
    (db,) = await stack.containers("db")
    assert await on_hand(stack, db) == load.posted.total()
    assert await stack.sql("show synchronous_standby_names") == ""
    (api, *_) = await stack.containers("api")
    await stack.inside(api, "erp", "verify")
    say(f"{load.posted.total():,} postings, {load.counts['asked again']} requests asked again")
