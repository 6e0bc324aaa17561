"""Event streams of exports, with two instances and a worker as real processes and over real sockets."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import Process, instance, worker
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually

JOBS = "/api/v1/exports/jobs"


class Event(NamedTuple):
    name: str
    id: str
    job: dict[str, Any]


class Pair(NamedTuple):
    """Two instances, and a client of each with the token of one user."""

    processes: list[Process]
    clients: list[httpx.AsyncClient]


@pytest.fixture
async def pair(
    settings: Settings, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> AsyncIterator[Pair]:
    await owner.execute(
        "insert into items (sku, name, unit) select 'SKU-' || n, 'Item ' || n, 'PCS' from generate_series(1, 5000) n"
    )
    token = token_of(settings, await make_user(database, Role.VIEWER))
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        instance(settings, tmp_path / "i1.log", ERP_DRAIN_SECONDS="1", ERP_LOG_LEVEL="info") as one,
        instance(settings, tmp_path / "i2.log", ERP_DRAIN_SECONDS="1", ERP_LOG_LEVEL="info") as two,
        httpx.AsyncClient(base_url=one.url, headers=headers, timeout=30) as a,
        httpx.AsyncClient(base_url=two.url, headers=headers, timeout=30) as b,
    ):
        yield Pair([one, two], [a, b])


async def submitted(client: httpx.AsyncClient) -> str:
    answer = await client.post(JOBS, json={"dataset": "items", "force_new": True})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def events(client: httpx.AsyncClient, url: str, last: str | None = None) -> AsyncGenerator[Event, None]:
    headers = {} if last is None else {"Last-Event-ID": last}
    async with client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif fields.get("data"):
                yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
                fields = {}


async def test_export_submitted_on_one_instance_is_followed_on_the_other_to_its_end(
    pair: Pair, settings: Settings, tmp_path: Path
) -> None:
    here, there = pair.clients
    export_id = await submitted(here)
    seen: list[Event] = []
    async with contextlib.aclosing(events(there, f"{JOBS}/{export_id}/events")) as stream:
        seen.append(await anext(stream))
        async with worker(settings, tmp_path / "w.log"):
            seen += [event async for event in stream]
    assert [event.name for event in seen[:-1]] == ["progress"] * (len(seen) - 1)
    assert seen[0].job["status"] == "queued"
    assert (seen[-1].name, seen[-1].job["result"]["rows"]) == ("done", 5000)
    assert seen[-1].job == (await here.get(f"{JOBS}/{export_id}")).json()


async def test_listener_of_an_instance_that_was_killed_goes_on_with_another(
    pair: Pair, settings: Settings, tmp_path: Path
) -> None:
    """No event is missed or comes twice, also if the instance is killed at the very end."""
    here, there = pair.clients
    export_id = await submitted(there)
    path = f"{JOBS}/{export_id}/events"
    async with contextlib.aclosing(events(here, path)) as stream:
        first = await anext(stream)
        pair.processes[0].signal(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            await anext(stream)
    async with contextlib.aclosing(events(there, path, first.id)) as stream:
        reading = asyncio.ensure_future(anext(stream))
        async with worker(settings, tmp_path / "w.log"):
            seen = [await reading, *[event async for event in stream]]
    versions = [int(event.id) for event in (first, *seen)]
    assert versions == sorted(set(versions))
    assert seen[-1].name == "done"
    # once more, as an EventSource reconnects by itself
    assert (await there.get(path, headers={"Last-Event-ID": seen[-1].id})).status_code == 204


async def test_open_streams_and_long_polls_do_not_hold_a_drain(pair: Pair) -> None:
    here, there = pair.clients
    export_id = await submitted(there)
    async with contextlib.aclosing(events(here, f"{JOBS}/{export_id}/events")) as stream:
        await anext(stream)
        poll = asyncio.create_task(here.get(f"{JOBS}/{export_id}", headers={"Prefer": "wait=60"}))
        pair.processes[0].signal(signal.SIGTERM)
        assert [event async for event in stream] == []
        # well before the end of the grace period, at which they would be cut off
        assert await pair.processes[0].ended(seconds=12) == 0
        assert (await poll).status_code == 200
    log = pair.processes[0].log.read_text()
    assert "unhandled" not in log
    assert "Traceback" not in log


async def test_stream_goes_on_when_a_worker_is_killed_under_the_export(
    pair: Pair, settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    """Streams must not hang after the worker died: this one sends the next attempt, and the end."""
    async with worker(settings, tmp_path / "w1.log") as victim:
        await owner.execute("begin; lock table items in access exclusive mode")
        export_id = await submitted(pair.clients[0])

        async def held() -> int:
            return int(
                await owner.fetchval("select count(*) from pg_locks where not granted and relation = 'items'::regclass")
            )

        async with contextlib.aclosing(events(pair.clients[1], f"{JOBS}/{export_id}/events")) as stream:
            await eventually(held)
            victim.signal(signal.SIGKILL)
            await owner.execute("rollback")
            async with worker(settings, tmp_path / "w2.log"):
                seen = [event async for event in stream]
    assert (seen[-1].name, seen[-1].job["status"], seen[-1].job["attempt"]) == ("done", "succeeded", 2)


async def test_signed_address_of_one_instance_works_on_the_other_and_stands_in_no_log(
    pair: Pair, settings: Settings, tmp_path: Path
) -> None:
    here, there = pair.clients
    async with worker(settings, tmp_path / "w.log"):
        export_id = await submitted(here)
        address = (await here.post(f"{JOBS}/{export_id}/download-url")).json()
        async with httpx.AsyncClient(base_url=there.base_url, timeout=30) as nobody:
            async with contextlib.aclosing(events(nobody, address["events_url"])) as stream:
                seen = [event async for event in stream]
            assert seen[-1].name == "done"
            file = await nobody.get(address["url"])
            rest = await nobody.get(address["url"], headers={"Range": "bytes=100-"})
            refused = await nobody.get(address["url"][:-1])
    assert (file.status_code, rest.status_code, refused.status_code) == (200, 206, 403)
    assert file.content[100:] == rest.content
    logs = "".join(process.log.read_text() for process in pair.processes)
    assert f"/{export_id}/download" in logs
    for url in (address["url"], address["events_url"]):
        assert url.partition("signature=")[2] not in logs
