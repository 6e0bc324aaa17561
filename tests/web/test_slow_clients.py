"""Clients that send slowly, or nothing, or hang up: none of them may hold what others need."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg
import pytest
from litestar import Litestar, Request
from litestar.middleware import DefineMiddleware
from litestar.types import HTTPReceiveMessage, Message

from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.auth.passwords import HashSlot
from erp_service.web import exception_handlers
from erp_service.web.middleware import WholeBody
from erp_service.web.requests import ApiRequest
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, RolesDeclared, post
from tests.auth.people import PASSWORD
from tests.support.apps import services_of
from tests.support.clients import SignIn, client_of
from tests.support.waiting import eventually

_JSON = {"Content-Type": "application/json"}
_KEY = {"Idempotency-Key": "never-sent"}


class Slow(NamedTuple):
    """A request whose body never comes."""

    method: str
    path: str
    headers: dict[str, str]


SLOW = [
    Slow("POST", "/api/v1/exports/jobs/00000000-0000-7000-8000-000000000000/cancel", _KEY),
    Slow("POST", "/api/v1/exports/jobs/00000000-0000-7000-8000-000000000000/cancel", _KEY | {"Content-Length": "2"}),
    Slow("POST", "/api/v1/exports/jobs", _JSON),
    Slow("POST", "/api/v1/exports/jobs", _JSON | {"Content-Length": "2"}),
    Slow("POST", "/api/v1/inventory/stock/movements", _JSON),
    Slow("POST", "/api/v1/users", _JSON | _KEY),
    Slow("POST", "/api/v1/auth/logout", {}),
    Slow("POST", "/api/v1/auth/refresh", _JSON),
    Slow("POST", "/api/v1/auth/login", {"Content-Type": "application/x-www-form-urlencoded"}),
    Slow("PUT", "/api/v1/inventory/items/1", _JSON),
    Slow("DELETE", "/api/v1/inventory/items/1", {}),
    Slow("GET", "/api/v1/inventory/items", {}),
]


@pytest.mark.parametrize("slow", SLOW, ids=lambda slow: f"{slow.method} {slow.path} {'/'.join(slow.headers)}")
async def test_bodies_that_never_come_hold_no_connection(app: Litestar, sign_in: SignIn, slow: Slow) -> None:
    """As many requests as the pool has connections, and then one more that needs a connection."""
    services = services_of(app)
    client = await sign_in(Role.ADMIN)
    waiting = 0
    end = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        nonlocal waiting
        waiting += 1
        await end.wait()
        yield b"{}"

    requests = [
        asyncio.create_task(client.request(slow.method, slow.path, content=never(), headers=slow.headers))
        for _ in range(services.settings.pool_size)
    ]
    try:

        async def all_wait() -> bool:
            return waiting == len(requests)

        await eventually(all_wait)
        assert services.database.pool()["in_use"] == 0
        assert (await client.get("/api/v1/inventory/items")).status_code == 200
    finally:
        end.set()
        await asyncio.gather(*requests)


@pytest.mark.parametrize("path", ["/api/v1/users", "/api/v1/auth/register"])
async def test_users_whose_password_waits_to_be_hashed_hold_no_connection(
    app: Litestar, sign_in: SignIn, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_of(app)
    client = await sign_in(Role.ADMIN)
    end = asyncio.Event()
    hash_ = HashSlot.hash

    async def late(slot: HashSlot, password: str) -> str:
        await end.wait()
        return await hash_(slot, password)

    monkeypatch.setattr(HashSlot, "hash", late)
    bodies = [
        {"email": f"new{n}@example.com", "full_name": "New Person", "password": PASSWORD}
        for n in range(services.settings.pool_size)
    ]
    requests = [asyncio.create_task(client.post(path, json=body)) for body in bodies]
    try:

        async def all_wait() -> bool:
            return services.login.passwords.in_line == len(requests)

        await eventually(all_wait)
        assert services.database.pool()["in_use"] == 0
        assert (await client.get("/api/v1/inventory/items")).status_code == 200
    finally:
        end.set()
        answers = await asyncio.gather(*requests)
    assert {answer.status_code for answer in answers} == {201}


@pytest.mark.parametrize("lost", ["deactivated", "demoted", "password reset", "signed out"])
async def test_a_body_that_ends_after_its_senders_rights_did_does_nothing(
    app: Litestar, sign_in: SignIn, owner: asyncpg.Connection, lost: str
) -> None:
    """Who expects to be dismissed holds back the last byte of a request that creates an heir."""
    chief, leaver = await sign_in(Role.SUPER_ADMIN), await sign_in(Role.SUPER_ADMIN)
    begun, end = asyncio.Event(), asyncio.Event()
    heir = b'{"email": "heir@example.com", "full_name": "Heir", "role": "SUPER_ADMIN", "password": "%b"}'

    async def held_back() -> AsyncIterator[bytes]:
        begun.set()
        await end.wait()
        yield heir % PASSWORD.encode()

    request = asyncio.create_task(leaver.post("/api/v1/users", content=held_back(), headers=_JSON))
    await begun.wait()
    match lost:
        case "deactivated":
            await owner.execute(f"update users set is_active = false where id = {leaver.user_id}")
        case "demoted":
            answer = await chief.post(f"/api/v1/users/{leaver.user_id}/role", json={"role": "ADMIN", "reason": "x"})
            assert answer.status_code == 200
        case "password reset":
            reset = {"new_password": "a short walk by the lake"}
            answer = await chief.post(f"/api/v1/users/{leaver.user_id}/reset-password", json=reset)
            assert answer.status_code == 204
        case "signed out":
            assert (await leaver.post("/api/v1/auth/logout")).status_code == 204

    async def over() -> bool:
        return (await leaver.get("/api/v1/inventory/items")).status_code == 401

    await eventually(over)
    end.set()
    assert (await request).status_code == 401
    assert await owner.fetchval("select count(*) from users where email = 'heir@example.com'") == 0


@pytest.mark.parametrize("path", ["/api/v1/users", "/api/v1/auth/register"])
async def test_who_loses_the_role_while_a_password_is_hashed_creates_nobody(
    app: Litestar, sign_in: SignIn, owner: asyncpg.Connection, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaver = await sign_in(Role.SUPER_ADMIN)
    hash_ = HashSlot.hash

    async def meanwhile_demoted(slot: HashSlot, password: str) -> str:
        await owner.execute(f"update users set role = 'ADMIN' where id = {leaver.user_id}")
        return await hash_(slot, password)

    monkeypatch.setattr(HashSlot, "hash", meanwhile_demoted)
    body = {"email": "heir@example.com", "full_name": "Heir", "role": "SUPER_ADMIN", "password": PASSWORD}
    answer = await leaver.post(path, json=body)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/role-out-of-reach")
    assert await owner.fetchval("select count(*) from users where email = 'heir@example.com'") == 0


@post("/lines", role=PUBLIC, scope=Keys.NONE, lines=True, status_code=200)
async def take_lines(request: Request[Any, Any, Any]) -> ApiResponse[int]:
    return ApiResponse(len(await request.body()))


@post("/small", role=PUBLIC, scope=Keys.NONE, status_code=200)
async def take_small(request: Request[Any, Any, Any]) -> ApiResponse[int]:
    return ApiResponse(len(await request.body()))


@post("/pieces", role=PUBLIC, scope=Keys.NONE, status_code=200, streams_body=True)
async def take_pieces(request: Request[Any, Any, Any]) -> ApiResponse[int]:
    return ApiResponse(len([piece async for piece in request.stream() if piece]))


def _app(*, most: int = 1 << 20, seconds: float = 60.0) -> Litestar:
    return Litestar(
        [take_lines, take_small, take_pieces],
        middleware=[DefineMiddleware(WholeBody, most=most, seconds=seconds)],
        request_class=ApiRequest,
        response_class=ApiResponse,
        request_max_body_size=None,
        exception_handlers=exception_handlers.HANDLERS,
        plugins=[RolesDeclared()],
        openapi_config=None,
        logging_config=None,
    )


async def test_a_body_that_takes_too_long_is_408_and_the_connection_ends() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with client_of(_app(seconds=0.01)) as client:
        answer = await client.post("/lines", content=never())
    assert (answer.status_code, answer.json()["type"]) == (408, "/problems/request-timeout")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(("path", "limit"), [("/lines", 1 << 20), ("/small", 4096)])
async def test_a_body_over_its_routes_limit_is_413(path: str, limit: int) -> None:
    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 1000):
            yield b" " * min(1000, size - start)

    async with client_of(_app()) as client:
        assert (await client.post(path, content=b" " * limit)).json() == limit
        assert (await client.post(path, content=pieces(limit))).json() == limit
        for content in (b" " * (limit + 1), pieces(limit + 1)):
            answer = await client.post(path, content=content)
            assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
            assert str(limit) in answer.json()["detail"]


async def test_the_operators_limit_holds_on_each_route() -> None:
    async with client_of(_app(most=2000)) as client:
        for path in ("/lines", "/small"):
            assert (await client.post(path, content=b" " * 2000)).status_code == 200
            assert (await client.post(path, content=b" " * 2001)).status_code == 413


async def test_a_route_that_streams_gets_the_body_as_it_comes() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 5000

    async with client_of(_app(seconds=0)) as client:
        assert (await client.post("/pieces", content=pieces())).json() == 3


@pytest.mark.parametrize("path", ["/lines", "/small"])
async def test_a_client_that_hangs_up_in_its_body_is_no_error_of_ours(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    messages: list[HTTPReceiveMessage] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]
    answers: list[Message] = []

    async def receive() -> HTTPReceiveMessage:
        return messages.pop(0)

    async def send(message: Message) -> None:
        answers.append(message)

    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"test"), (b"content-length", b"10")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    with contextlib.suppress(IndexError):
        await _app()(scope, receive, send)
    assert [m["status"] for m in answers if m["type"] == "http.response.start"] == [400]
    assert "Traceback" not in capsys.readouterr().err
