"""Bodies without a token that cost more to read than to send: two clients, less than one request a second each."""

import pytest

from tests.attacks.target import Harmless, Target, connected, head, repeated

REFRESH, LOGIN = "/api/v1/auth/refresh", "/api/v1/auth/login"
MEGABYTE = 1024 * 1024 - 100


def _filled(start: bytes, piece: bytes, end: bytes) -> bytes:
    return start + piece * ((MEGABYTE - len(start) - len(end)) // len(piece)) + end


BODIES = {
    "floats": _filled(b'{"refresh_token":[', b"1.5,", b"1]}"),
    "long floats": _filled(b'{"refresh_token":[', b"1." + b"5" * 60 + b",", b"1]}"),
    "unknown keys": b"{" + b",".join(b'"k%06d":1' % n for n in range(86_000)) + b"}",
    "one key again and again": _filled(b"{", b'"refresh_token":1,', b'"x":1}'),
    "nested lists": b"[" * (MEGABYTE // 2) + b"]" * (MEGABYTE // 2),
    "escapes": _filled(b'{"refresh_token":"', b"\\u00e9", b'"}'),
    "not UTF-8": _filled(b'{"refresh_token":"', b"\xff", b'"}'),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
async def test_body_that_costs_more_to_read_than_to_send(target: Target, harmless: Harmless, body: bytes) -> None:
    request = head(
        target.balancer, "POST", REFRESH, "Content-Type: application/json", f"Content-Length: {len(body)}"
    ) + body  # fmt: skip

    async def two_clients() -> None:
        for _ in range(2):
            async with connected(target.balancer) as connection:
                await connection.send(request)
                # 0: who goes on sending after the answer may find the connection reset before they read it
                assert await connection.status() in (0, 400, 401, 413, 422)

    await harmless(lambda: repeated(two_clients, pause=1.1))


async def test_form_that_costs_more_to_read_than_to_send(target: Target, harmless: Harmless) -> None:
    body = b"&".join(b"a%06d=%%41" % n for n in range(80_000))
    kind = "Content-Type: application/x-www-form-urlencoded"
    request = head(target.balancer, "POST", LOGIN, kind, f"Content-Length: {len(body)}") + body

    async def two_clients() -> None:
        for _ in range(2):
            async with connected(target.balancer) as connection:
                await connection.send(request)
                assert await connection.status() in (0, 400, 413, 422)

    await harmless(lambda: repeated(two_clients, pause=1.1))


async def test_address_that_costs_more_to_read_than_to_send(target: Target, harmless: Harmless) -> None:
    """Thousands of query parameters, in a head that is as long as it may be, to an instance without a balancer."""
    query = "&".join(f"a{n}=%41" for n in range(3_000))

    async def many_parameters() -> None:
        for instance in target.instances:
            async with connected(instance.url) as connection:
                await connection.send(head(instance.url, "GET", f"/api/v1/inventory/items?{query}"))
                assert await connection.status() in (400, 401, 414, 422, 431)

    await harmless(lambda: repeated(many_parameters, pause=1.1))
