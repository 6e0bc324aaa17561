"""A client that sends slowly, or reads slowly, must hold nothing that others need."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from tests.attacks.target import JOBS, Connection, Harmless, Target, connected, finished, head, repeated

WITHOUT_DATA = f"{JOBS}/00000000-0000-7000-8000-000000000000/cancel"
"""A route that takes no body, and a connection to the database."""
CONNECTIONS = 40
"""To each instance: four times as many as it has connections to the database."""


def _unfinished(url: str, token: str, path: str, n: int, *lines: str) -> bytes:
    authorization = f"Authorization: Bearer {token}"
    return head(
        url, "POST", path, authorization, f"Idempotency-Key: held-{n}", "Content-Type: application/json", *lines
    )


@contextlib.asynccontextmanager
async def _held(target: Target, path: str, *lines: str) -> AsyncIterator[list[Connection]]:
    """Requests to both instances whose heads have come, and whose bodies never do."""
    async with AsyncExitStack() as stack:
        connections: list[Connection] = []
        for url in [instance.url for instance in target.instances] * CONNECTIONS:
            connection = await stack.enter_async_context(connected(url))
            assert await connection.send(_unfinished(url, target.viewer, path, len(connections), *lines))
            connections.append(connection)
        yield connections


async def test_bodies_that_never_come_do_not_switch_an_instance_off(target: Target, harmless: Harmless) -> None:
    await harmless(lambda: _held(target, WITHOUT_DATA, "Content-Length: 10"))


async def test_bodies_that_never_come_to_a_route_that_reads_them(target: Target, harmless: Harmless) -> None:
    await harmless(lambda: _held(target, JOBS, "Content-Length: 10"))


async def test_chunked_bodies_that_trickle_through_the_balancer(target: Target, harmless: Harmless) -> None:
    @contextlib.asynccontextmanager
    async def trickle() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(connected(target.balancer)) for _ in range(CONNECTIONS)]
            for n, connection in enumerate(connections):
                chunked = "Transfer-Encoding: chunked"
                assert await connection.send(_unfinished(target.balancer, target.viewer, WITHOUT_DATA, n, chunked))

            async def one_byte_each() -> None:
                for connection in connections:
                    await connection.send(b"1\r\n \r\n")

            async with repeated(one_byte_each, pause=0.5):
                yield

    await harmless(trickle)


async def test_body_that_does_not_arrive_is_answered_and_closed(target: Target) -> None:
    """By the instance itself: it may stand without a balancer."""
    async with _held(target, JOBS, "Content-Length: 10") as connections:
        assert {await connection.status() for connection in connections} == {408}


async def test_downloads_that_nobody_reads(target: Target, harmless: Harmless) -> None:
    async with target.client(target.viewer) as client:
        job = await finished(client, dataset="items")

    @contextlib.asynccontextmanager
    async def unread() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for url in [instance.url for instance in target.instances] * (CONNECTIONS // 2):
                connection = await stack.enter_async_context(connected(url))
                authorization = f"Authorization: Bearer {target.viewer}"
                assert await connection.send(head(url, "GET", f"{JOBS}/{job['id']}/download", authorization))
            yield

    await harmless(unread)
