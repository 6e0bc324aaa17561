"""Bodies that are cheap to send and dear to read: none of them stops the event loop for others."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from erp_service import validation
from erp_service.access.roles import Role
from erp_service.inventory.bulk.schemas import ItemBulk
from erp_service.inventory.posting.schemas import Movements
from erp_service.web.merge_patch import Edit
from tests.support.apps import services_of
from tests.support.clients import client_of
from tests.support.users import make_user, token_of

_LIMIT = 1 << 20
_LINE = {
    "transaction_type": "IN",
    "item_id": 1,
    "location_id": 1,
    "quantity": "12.5",
    "unit_cost": "3.25",
    "reference_no": "PO-4711",
    "notes": "as ordered",
}
_LINES = {"movements": [_LINE] * 1000}

MOST = 5.0
"""The longest pause, in decodings of 1,000 ordinary lines, which take about 4 ms of an undisturbed core."""


def ordinary_seconds() -> float:
    """CPU seconds that it takes to decode 1,000 ordinary lines, as the event loop may do."""
    body = msgspec.json.encode(_LINES)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        validation.decode(Movements, body)
        seconds.append(time.process_time() - start)
    return min(seconds)


def filled(start: bytes, part: bytes, end: bytes, size: int) -> bytes:
    return start + part * ((size - len(start) - len(end)) // len(part)) + end


def hostile(name: bytes, size: int) -> Iterator[bytes]:
    """Bodies of `size` bytes at most, each with the field `name` in it."""
    field = b'{"%b":' % name
    yield filled(field + b"[", b"1.5,", b"1]}", size)
    yield filled(field + b"[", b"1e5,", b"1]}", size)
    yield filled(field + b"[", b"1,", b"1]}", size)
    yield filled(field + b"[", b"[],", b"1]}", size)
    yield filled(field + b"[", b"{},", b"1]}", size)
    yield filled(field + b"[", b'"",', b"1]}", size)
    yield filled(field + b'"', b"\\u0000", b'"}', size)
    yield filled(field + b'"', b"\\\\", b'\\u0000"}', size)
    yield filled(field + b"[", b'"\\u0000",', b"1]}", size)
    yield filled(field + b"", b"[" * 400, b"", size)
    yield filled(field + b"1", b"1", b"}", size)
    yield filled(field + b"0.", b"1", b"}", size)
    keys = [b'"k%d":1' % number for number in range(size // 11)]
    yield b"{" + b",".join(keys)[: size - 2].rpartition(b",")[0] + b"}"
    yield field + b"{" + b",".join(keys)[: size - 40].rpartition(b",")[0] + b"}}"
    yield filled(b"", b'{"a":', b"", size)


def hostile_texts(names: list[str], size: int) -> Iterator[bytes]:
    """Every field a text as long as all of them can be: regular expressions and normal forms look at each letter."""
    for letter in ("a", " ", ".", "@a", "-", "a\u0301", "\ufdfa"):
        length = size // len(names) // len(letter.encode()) - 40
        yield msgspec.json.encode(dict.fromkeys(names, letter * length))


def hostile_lines() -> Iterator[bytes]:
    short = msgspec.json.encode({n: _LINE[n] for n in ("transaction_type", "item_id", "location_id", "quantity")})
    yield filled(b'{"movements":[', short + b",", short + b"]}", _LIMIT)
    bad = {**_LINE, "quantity": "x", "item_id": 0, "unknown": 1}
    yield msgspec.json.encode({"movements": [bad] * 1000})
    yield msgspec.json.encode({"movements": [_LINE] * 999 + [bad]})
    yield msgspec.json.encode({"movements": [{**_LINE, "metadata": {f"k{n}": "v" for n in range(50)}}] * 900})
    yield msgspec.json.encode({"movements": [_LINE] * 999 + [{**_LINE, "notes": "\0"}]})


def hostile_items() -> Iterator[bytes]:
    line = {"sku": "A", "name": "A", "reorder_point": 1.5, "metadata": {"a": "b"}}
    yield msgspec.json.encode({"items": [line] * 1000})
    yield msgspec.json.encode({"items": [{**line, **{f"k{n}": 1 for n in range(50)}} for _ in range(1000)]})
    yield msgspec.json.encode({"items": [{**line, "metadata": {f"k{n}": None for n in range(50)}}] * 1000})
    yield filled(b'{"items":[' + b'{"metadata":' * 400, b"{},", b"1" + b"}" * 400 + b"]}", _LIMIT)


class Pauses:
    """The longest CPU time of this process between two turns of the event loop. Other processes do not count in it."""

    def __init__(self) -> None:
        self.longest = 0.0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        last = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            self.longest = max(self.longest, now - last)
            last = now


def _with_bodies(app: Litestar) -> list[tuple[str, str, HTTPRouteHandler]]:
    return [
        (method, re.sub(r"\{[^}]*:int\}", "1", re.sub(r"\{[^}]*:uuid\}", _ID, route.path)), handler)
        for route in app.routes
        for handler in getattr(route, "route_handlers", [])
        if "data" in handler.parsed_fn_signature.parameters
        for method in handler.http_methods
    ]


_ID = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
async def client(shared_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    services = services_of(shared_app)
    user_id = await make_user(services.database, Role.SUPER_ADMIN)
    async with client_of(shared_app, token_of(services.settings, user_id)) as client:
        yield client


async def pauses(client: httpx.AsyncClient, method: str, path: str, body: bytes, allowed: float) -> float:
    """The longest pause in CPU seconds; of a few times the least, since a collection of garbage may fall into one."""
    least = float("inf")
    for _ in range(3):
        pause = Pauses()
        async with pause.watched():
            answer = await client.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, (path, body[:80], answer.text[:500])
        assert len(answer.content) < 64 * 1024
        least = min(least, pause.longest)
        if least <= allowed:
            break
    return least


async def test_no_body_stops_the_event_loop(shared_app: Litestar, client: httpx.AsyncClient) -> None:
    allowed = MOST * ordinary_seconds()
    routes = _with_bodies(shared_app)
    assert len(routes) > 15
    slow = {}
    for method, path, handler in routes:
        limit = handler.opt["body_limit"] or _LIMIT
        kind = handler.parsed_fn_signature.parameters["data"].annotation
        kind = kind.body if issubclass(kind, Edit) else kind
        names = [field.encode_name for field in msgspec.structs.fields(kind)]
        bodies = [*hostile(names[0].encode(), limit), *hostile_texts(names, limit)]
        if kind is Movements:
            bodies += hostile_lines()
        if kind is ItemBulk:
            bodies += hostile_items()
        for body in bodies:
            assert len(body) <= limit
            if (pause := await pauses(client, method, path, body, allowed)) > allowed:
                slow[method, path, body[:60]] = pause / allowed
    assert slow == {}


async def test_a_body_over_the_limit_costs_no_decoding(client: httpx.AsyncClient) -> None:
    body = filled(b'{"refresh_token":[', b"1.5,", b"1]}", _LIMIT)
    answer = await client.post("/api/v1/auth/refresh", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


async def test_thousands_of_query_parameters_are_refused_in_short(client: httpx.AsyncClient) -> None:
    pause = Pauses()
    query = "&".join(f"p{number}=1" for number in range(4000))
    async with pause.watched():
        answer = await client.get(f"/api/v1/inventory/items?{query}")
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
