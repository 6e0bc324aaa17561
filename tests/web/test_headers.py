"""What every answer says to browsers, caches and curious clients."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar

from erp_service.access.roles import Role
from tests.support.apps import services_of
from tests.support.clients import client_of
from tests.support.users import make_user, token_of

_ID = "00000000-0000-7000-8000-000000000000"
_PARTS = {r"\{[^}]*:int\}": "1", r"\{[^}]*:uuid\}": _ID, r"\{slug:str\}": "not-found", r"\{[^}]*:path\}": "/x"}


@pytest.fixture
async def client(shared_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Signed in as a SUPER_ADMIN."""
    services = services_of(shared_app)
    user_id = await make_user(services.database, Role.SUPER_ADMIN)
    async with client_of(shared_app, token_of(services.settings, user_id)) as client:
        yield client


def paths(app: Litestar) -> dict[str, set[str]]:
    """Each path with its methods; parameters have values that lead nowhere."""
    every: dict[str, set[str]] = {}
    for route in app.routes:
        path = route.path
        for pattern, value in _PARTS.items():
            path = re.sub(pattern, value, path)
        every.setdefault(path, set()).update(getattr(route, "methods", ()))
    return every


async def test_pages_run_no_script_but_their_own_and_stand_in_no_frame(
    shared_app: Litestar, client: httpx.AsyncClient
) -> None:
    pages = []
    for path, methods in paths(shared_app).items():
        if "GET" not in methods or path.startswith("/docs/static"):
            continue
        answer = await client.get(path)
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        pages.append(path)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "unsafe" not in policy["script-src"]
        assert answer.headers["x-frame-options"] == "DENY"
        inline = [text for _, text in re.findall(r"<script(| type=[^>]*)>(.+?)</script>", answer.text, re.DOTALL)]
        for text in inline:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy["script-src"]
        assert not re.search(r"""<[^>]*\s(on[a-z]+=|(src|href)=["']?https?:)""", answer.text), "the policy forbids it"
    assert {"/docs", "/problems", "/problems/not-found"} <= set(pages)


async def test_no_json_may_be_stored(shared_app: Litestar, client: httpx.AsyncClient) -> None:
    seen = set()
    for path, methods in paths(shared_app).items():
        for method in methods - {"OPTIONS"}:
            answer = await client.request(method, path)
            media_type = answer.headers.get("content-type", "").partition(";")[0]
            if media_type.endswith("json"):
                seen.add((media_type, answer.status_code))
                assert "no-store" in answer.headers.get("cache-control", ""), (method, path, answer.status_code)
    kinds = {("application/json", 200), ("application/problem+json", 404), ("application/problem+json", 400)}
    assert kinds <= seen


async def test_no_unchanged_json_may_be_stored(client: httpx.AsyncClient) -> None:
    current = await client.get("/api/v1/auth/me")
    same = await client.get("/api/v1/auth/me", headers={"If-None-Match": current.headers["etag"]})
    assert (same.status_code, same.headers["cache-control"]) == (304, "no-store")


async def test_allow_names_all_methods_of_a_path(shared_app: Litestar, client: httpx.AsyncClient) -> None:
    several = 0
    for path, methods in paths(shared_app).items():
        if path.startswith(("/docs/static", "/schema")):
            continue
        several += len(methods - {"OPTIONS"}) > 1
        options = await client.options(path)
        assert options.status_code == 204, path
        assert set(options.headers["allow"].split(", ")) == methods, path
        wrong = await client.request("TRACE", path)
        assert wrong.status_code == 405, path
        assert set(wrong.headers["allow"].split(", ")) == methods, path
    assert several > 5


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/xml", "*/*"],
)
async def test_a_body_that_says_it_is_no_json_is_415(client: httpx.AsyncClient, media_type: str) -> None:
    body = b'{"sku": "A", "name": "A", "unit": "pcs"}'
    answer = await client.post("/api/v1/inventory/items", content=body, headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


@pytest.mark.parametrize("path", ["/api/v1/inventory/items", "/api/v1/auth/login", "/api/v1/auth/refresh"])
@pytest.mark.parametrize("coding", ["gzip", "GZIP, identity", "br"])
async def test_a_body_that_says_it_is_compressed_is_not_read_as_if_it_were_not(
    client: httpx.AsyncClient, path: str, coding: str
) -> None:
    answer = await client.post(path, content=b"{}", headers={"Content-Encoding": coding})
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert answer.headers["accept-encoding"] == "identity"
    answer = await client.post(path, content=b"{}", headers={"Content-Encoding": "identity"})
    assert answer.status_code in (415, 422)
    assert "accept-encoding" not in answer.headers


@pytest.mark.parametrize("media_type", [None, "application/json", "Application/JSON; charset=utf-8"])
async def test_a_body_of_json_is_read(client: httpx.AsyncClient, media_type: str | None) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    answer = await client.post("/api/v1/inventory/items", content=b'{"name": 1}', headers=headers)
    assert answer.status_code == 422


async def test_a_bad_value_is_not_repeated_whole(client: httpx.AsyncClient) -> None:
    """Of an enum, of an unknown name, in the query: else an answer may be as large as what was sent."""
    long = "x" * 20_000
    item = {"sku": "A", "name": "A", "unit": "pcs"}
    for answer in (
        await client.post("/api/v1/inventory/items", json={**item, "status": long}),
        await client.post("/api/v1/inventory/items", json={**item, long: 1}),
        await client.post("/api/v1/exports/jobs", json={"dataset": long}),
        await client.post("/api/v1/exports/jobs", json={"dataset": "items", "filter": {long: long}}),
        await client.get("/api/v1/inventory/items", params={"status": long}),
        await client.get("/api/v1/inventory/items", params={"sort": long}),
        await client.get("/api/v1/inventory/items", params={"limit": long}),
        await client.get("/api/v1/inventory/items", params={long: "1"}),
    ):
        assert answer.status_code == 422
        assert answer.json()["errors"]
        assert len(answer.content) < 2000, answer.text[:300]
