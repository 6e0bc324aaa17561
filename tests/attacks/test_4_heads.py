"""Heads without an end, and connections without a request, to instances that no balancer protects."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import psutil

from tests.attacks.target import Harmless, Target, connected, head, repeated

LINE = b"X-Filler: " + b"a" * 4000 + b"\r\n"
LINES = 7_500
"""30 MB."""
IDLE = 2_000
"""Connections to each instance."""


async def test_head_without_an_end_is_cut_off(target: Target, harmless: Harmless) -> None:
    memory = [psutil.Process(instance.pid).memory_info().rss for instance in target.instances]

    async def endless() -> None:
        for instance in target.instances:
            async with connected(instance.url) as connection:
                await connection.send(head(instance.url, "GET", "/health/live")[:-2])
                for _ in range(LINES):
                    # what comes after the refusal is thrown away for a moment, so that the refusal can be read
                    if not await connection.send(LINE):
                        break
                assert await connection.status() in (0, 431)

    await harmless(lambda: repeated(endless, pause=1))
    for instance, before in zip(target.instances, memory, strict=True):
        # a tenth of what was sent would be three times as much
        assert psutil.Process(instance.pid).memory_info().rss < before + 1024 * len(LINE) * LINES // 10_000
    async with connected(target.instances[0].url) as connection:
        await connection.send(head(target.instances[0].url, "GET", "/health/live")[:-2] + LINE * 9)
        assert await connection.status() == 431


async def test_connections_without_a_request_cost_memory_and_not_answers(target: Target, harmless: Harmless) -> None:
    @contextlib.asynccontextmanager
    async def idle() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for instance in target.instances:
                for n in range(IDLE):
                    await stack.enter_async_context(connected(instance.url, address=f"127.0.1.{n % 250 + 1}"))
            yield

    await harmless(idle)
    async with idle():
        for instance in target.instances:
            async with httpx.AsyncClient(base_url=instance.url) as client:
                assert (await client.get("/health/ready")).status_code == 200


async def test_heads_that_trickle_are_cut_off(target: Target) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(target.instances[0].url)) for _ in range(50)]
        for connection in connections:
            await connection.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n")
        assert {await connection.status() for connection in connections} <= {0, 408}
