"""What comes to the ways in that are for programs: keys that nobody has, files without an end, files that expand."""

import asyncio
import contextlib
import gzip
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count

import httpx
import psutil
import pytest

from erp_service.access.key_format import new_key
from tests.attacks.target import Harmless, Target, connected, head, repeated
from tests.support.databases import connected as connected_database
from tests.support.waiting import eventually

KEYS, IMPORTS = "/api/v1/api-keys", "/api/v1/imports/jobs"
GUESSES = 10_000
CONNECTIONS = 20
"""To each instance, each of four requests a second: half as many again as the balancer lets one address send."""
FILES = 20
"""At once: four times as many are fewer than one user may submit in an hour."""
PIECE = 16 * 1024 * 1024
LARGEST = 1024**3
"""Bytes of a file that is unpacked: the default of ERP_IMPORT_BYTES."""


async def test_flood_of_keys_that_nobody_has(target: Target, harmless: Harmless) -> None:
    """Their checksums are right, so each costs a look-up. The keys that programs use are not pushed out of memory by
    them, and memory does not grow with their number."""
    path = f"/api/v1/inventory/items/{target.item}"
    body = {"name": "a shop", "role": "VIEWER", "scopes": ["items:read"]}
    async with target.client(target.admin) as client:
        key = (await client.post(KEYS, json=body)).raise_for_status().json()["key"]
    memory = [psutil.Process(instance.pid).memory_info().rss for instance in target.instances]
    numbers, statuses = count(1), Counter[int]()

    async def guess(client: httpx.AsyncClient) -> None:
        answer = await client.get(path, headers={"Authorization": f"Bearer {new_key()}"})
        statuses[answer.status_code] += 1

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(target.client(url=one.url)) for one in target.instances]

        @contextlib.asynccontextmanager
        async def flood() -> AsyncIterator[None]:
            async def pace(client: httpx.AsyncClient) -> None:
                while next(numbers) <= GUESSES:
                    await guess(client)
                    await asyncio.sleep(0.25)

            guesses = [asyncio.create_task(pace(client)) for client in clients for _ in range(CONNECTIONS)]
            yield
            for task in guesses:
                task.cancel()
            await asyncio.gather(*guesses, return_exceptions=True)

        await harmless(flood)

        async def hurry(client: httpx.AsyncClient) -> None:
            while next(numbers) <= GUESSES:
                await guess(client)

        await asyncio.gather(*(hurry(client) for client in clients for _ in range(8)))
    assert statuses.keys() == {401}
    for instance, before in zip(target.instances, memory, strict=True):
        async with target.client(key, url=instance.url) as client:
            assert (await client.get(path)).status_code == 200
        # a kilobyte for each guess would be more
        assert psutil.Process(instance.pid).memory_info().rss < before + GUESSES * 1024


async def test_files_without_an_end_through_the_balancer(target: Target, harmless: Harmless) -> None:
    """It passes them on as they come. Too many are refused at once, the others when they are too slow; nothing of them
    stays."""
    authorization = f"Authorization: Bearer {target.admin}"
    lines = (authorization, "Content-Type: text/csv", "Transfer-Encoding: chunked")

    @contextlib.asynccontextmanager
    async def trickle() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(connected(target.balancer)) for _ in range(FILES)]
            for connection in connections:
                await connection.send(head(target.balancer, "POST", f"{IMPORTS}?dataset=items", *lines))

            async def one_line_each() -> None:
                for connection in connections:
                    await connection.send(b"e\r\nsku,name,unit\n\r\n")

            async with repeated(one_line_each, pause=0.5):
                yield

    await harmless(trickle)
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(target.balancer)) for _ in range(FILES)]
        for connection in connections:
            await connection.send(head(target.balancer, "POST", f"{IMPORTS}?dataset=items", *lines))
        statuses = Counter(await asyncio.gather(*(connection.status() for connection in connections)))
    # three of one user at each instance
    assert statuses.keys() == {408, 429}, statuses
    assert statuses[408] <= 3 * len(target.instances)
    async with connected_database(target.settings.migration_database_url or "") as owner:
        assert await owner.fetchval("select count(*) from import_jobs") == 0


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A file of a megabyte that is one line of a gigabyte: some bytes too many."""
    start = gzip.compress(b"sku,name,unit\n")
    return start + gzip.compress(b"A" * PIECE, 9) * (LARGEST // PIECE)


async def test_files_that_expand(target: Target, harmless: Harmless, bomb: bytes) -> None:
    """A worker unpacks them into a file of its own disk, piece by piece, as far as a file may be large."""
    headers = {"Content-Type": "application/gzip"}
    async with target.client(target.super_admin) as client:

        async def end(path: str) -> dict[str, str]:
            async def ended() -> dict[str, str] | None:
                job = (await client.get(path, headers={"Prefer": "wait=20"})).raise_for_status().json()
                return job["error"] if job["status"] == "failed" else None

            error = await eventually(ended, seconds=60)
            assert error is not None
            return error

        errors: list[dict[str, str]] = []

        @contextlib.asynccontextmanager
        async def expanding() -> AsyncIterator[None]:
            answer = await client.post(IMPORTS, params={"dataset": "items"}, content=bomb, headers=headers)
            assert answer.status_code == 202, answer.text
            yield
            errors.append(await end(answer.headers["Location"]))

        await harmless(expanding)
    assert {error["type"] for error in errors} == {"/problems/import-refused"}
    assert all(f"more than {LARGEST:,} bytes" in error["detail"] for error in errors), errors
