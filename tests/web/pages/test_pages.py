"""/docs and /problems over HTTP: what is found without JavaScript, what is text, and where files come from."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from erp_service import errors
from erp_service.console.routes import ASSETS as CONSOLE
from erp_service.web.pages.frame import ASSETS, Page, base_of, framed
from erp_service.web.pages.problems import index, page
from tests.support.clients import client_of

HOSTILE = """"><script>alert(1)</script>&{base}'"""


@pytest.fixture
async def client(shared_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Not signed in."""
    async with client_of(shared_app) as client:
        yield client


def found(body: str) -> list[str]:
    """The slugs in a page of problems that are not hidden."""
    return re.findall(r'<li data-more="[^"]*"><a href="[^"]*/problems/([a-z0-9-]+)"', body)


async def test_problems_are_found_by_title_slug_status_and_explanation(client: httpx.AsyncClient) -> None:
    every = found((await client.get("/problems")).text)
    assert sorted(every) == sorted(kind.slug for kind in errors.kinds())
    for words, slug in (
        ("IDEMPOTENCY-KEY belongs", "idempotency-key-reused"),
        ("insufficient-stock", "insufficient-stock"),
        ("412", "stale"),
        ("too many requests imports are waiting", "too-many-imports"),
        # of the second paragraph, which the list does not show
        ("same key only to retry", "idempotency-key-reused"),
    ):
        body = (await client.get("/problems", params={"q": words})).text
        assert slug in found(body), words
        assert len(found(body)) < len(every)
    none = (await client.get("/problems", params={"q": "no problem has this"})).text
    assert found(none) == []
    assert '<p id="none">' in none


@pytest.mark.parametrize("path", ["/problems", "/docs"])
async def test_what_is_searched_for_is_text(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, params={"q": HOSTILE, "utm_source": "a link", "null": "null"})
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert f'value="{html.escape(HOSTILE)}"' in answer.text
    assert (await client.get(path, params={"q": "x" * 201})).status_code == 422


def test_title_and_base_are_text_and_links_begin_with_the_base() -> None:
    shown = Page(title=HOSTILE, here="/docs", search=HOSTILE, body="<p>{base}</p>")
    assert "<script>alert" not in framed(shown, base=HOSTILE, words=HOSTILE)
    for body in (index(base="/erp"), page("not-found", "/erp") or ""):
        addresses = re.findall(r'(?:href|src|action)="([^"#]+)"', body)
        assert len(addresses) > 8
        assert {each for each in addresses if not each.startswith("/erp/")} == {"data:,"}
    assert base_of("https://example.com/erp/") == "/erp"


async def test_without_javascript_each_endpoint_is_listed(shared_app: Litestar, client: httpx.AsyncClient) -> None:
    body = (await client.get("/docs")).text
    paths = shared_app.openapi_schema.to_schema()["paths"]
    methods = {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method != "parameters"}
    assert set(re.findall(r"<li><code>([^<]+)</code>", body)) == methods
    searched = (await client.get("/docs", params={"q": "undo MOVEMENTS"})).text
    listed = re.findall(r"<li><code>([^<]+)</code>", searched)
    assert "POST /api/v1/imports/jobs/{job_id}/undo" in listed
    assert len(listed) < 10


@pytest.mark.parametrize("path", ["/docs", "/problems", "/problems/not-found"])
async def test_all_that_a_page_loads_is_there_and_nothing_is_inside(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert not re.search(r"<script[^>]*>[^<]|<style| style=| on\w+=", answer.text)
    files = re.findall(r'<(?:script|link)[^>]* (?:src|href)="(/[^"]+)"', answer.text)
    assert len(files) >= 2
    for file in files:
        loaded = await client.get(file)
        kind = "text/css" if ".css" in file else "javascript"
        assert loaded.status_code == 200
        assert kind in loaded.headers["content-type"]


def test_colours_are_those_of_the_console() -> None:
    def colours(style: str) -> list[tuple[str, str]]:
        return re.findall(r"(--[\w-]+): ([^;]+);", style)

    of_console = colours(CONSOLE.named("console.css").body.decode())
    assert len(of_console) == 39
    assert colours((ASSETS / "page.css").read_text()) == of_console
    assert set(used()) <= {name for name, _ in of_console} | {"--method"}


def used() -> list[str]:
    text = "".join(path.read_text() for path in sorted(Path(ASSETS).glob("*.css")))
    return re.findall(r"var\((--[\w-]+)\)", text)
