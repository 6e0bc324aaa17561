"""`erp serve` without a balancer in front: what a single client cannot do to it."""

import asyncio
import contextlib
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.service import Service

_JOB = "/api/v1/exports/jobs/00000000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("head", "status", "slug"),
    [
        (b"Cookie: " + b"c" * 40_000 + b"\r\n", 431, b"head-too-large"),
        (b"Host: other\r\n", 400, b"bad-request"),
        (b"no header\r\n", 400, b"bad-request"),
    ],
)
async def test_a_head_that_is_refused_is_answered_by_a_problem(
    service: Service, head: bytes, status: int, slug: bytes
) -> None:
    host = urlsplit(service.urls[0])
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    writer.write(b"GET /health/live HTTP/1.1\r\nHost: test\r\n" + head + b"\r\n")
    writer.write_eof()
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/problem+json" in answer
    assert b'"/problems/%b"' % slug in answer


@pytest.mark.parametrize("length", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
async def test_bodies_that_never_come_do_not_switch_an_instance_off(service: Service, length: bytes) -> None:
    """As many as the pool has connections, to a route that reads no body but for its Idempotency-Key."""
    host = urlsplit(service.urls[0])
    async with contextlib.AsyncExitStack() as stack:
        for number in range(service.settings.pool_size):
            reader, writer = await asyncio.open_connection(host.hostname, host.port)
            stack.callback(writer.close)
            head = b"POST %b/cancel HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer %b\r\nIdempotency-Key: never%d\r\n"
            # the server says "100 Continue" when it begins to wait for the body
            head += b"Expect: 100-continue\r\n%b\r\n\r\n"
            writer.write(head % (_JOB.encode(), service.token.encode(), number, length))
            async with asyncio.timeout(20):
                assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        headers = {"Authorization": f"Bearer {service.token}"}
        async with httpx.AsyncClient(base_url=service.urls[0], headers=headers, timeout=20) as client:
            assert (await client.get("/api/v1/inventory/items?limit=1")).status_code == 200
