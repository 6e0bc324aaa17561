"""/console over HTTP: one page for every address, its headers, and files that may be kept for a year."""

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar

from erp_service.console.page import CONTENT_POLICY, ENTRY
from erp_service.console.routes import ASSETS
from tests.support.clients import client_of


@pytest.fixture
async def client(shared_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Not signed in."""
    async with client_of(shared_app) as client:
        yield client


@pytest.mark.parametrize("path", ["", "/", "/stock", "/stock/items/7", "/stock/ledger?sku=A&sku=null", "/no/such/view"])
async def test_each_address_has_the_page(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/console{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == CONTENT_POLICY
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-cache"
    assert "set-cookie" not in answer.headers
    again = await client.get(f"/console{path}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in CONTENT_POLICY
    assert "http" not in CONTENT_POLICY
    assert CONTENT_POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self';")


@pytest.mark.parametrize("name", ["app.js", "console.css", "icon.svg"])
async def test_a_file_is_kept_for_a_year(client: httpx.AsyncClient, name: str) -> None:
    asset = ASSETS.named(name)
    answer = await client.get(f"/console/assets/{asset.served_as}", headers={"Accept-Encoding": "gzip, br"})
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"].partition(";")[0] == asset.media_type
    assert int(answer.headers["content-length"]) == len(asset.gzipped)
    assert answer.content == asset.body, "httpx has decompressed it"
    plain = await client.get(f"/console/assets/{asset.served_as}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == asset.body == gzip.decompress(asset.gzipped)


async def test_of_another_version_only_what_can_load_the_page_again_is_there(client: httpx.AsyncClient) -> None:
    other = await client.get(f"/console/assets/{ENTRY.replace('.', '.0123456789ab.')}")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-store")
    for name in ("app.0123456789ab.js", "app.js", "nothing.0123456789ab.js", ".js", "..", "boot"):
        answer = await client.get(f"/console/assets/{name}")
        assert answer.status_code == 404 or answer.headers["content-type"].startswith("text/html"), name
    assert (await client.get("/console/assets/app.0123456789ab.js")).status_code == 404
