"""Downloads that nginx sends by itself (X-Accel-Redirect), and clients to whom that header must not be sent."""

from collections.abc import AsyncIterator

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service.settings import Settings, SettingsError, load
from tests.exports.data import many_items
from tests.exports.jobs import JOBS, done
from tests.support.workers import Work

PREFIX = "/-/exports"
OFFLOAD = {"X-Accel-Offload": PREFIX}
# as uvicorn leaves it after a trusted proxy's X-Forwarded-For, and as it is without one
FORWARDED, DIRECT = ("198.51.100.7", 0), ("198.51.100.7", 41234)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, export_store_accel=PREFIX)


@pytest.fixture
async def address(viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work) -> str:
    await many_items(owner, 100)
    async with work():
        job = await done(viewer)
    return f"{JOBS}/{job['id']}/download"


@pytest.fixture
async def behind(app: Litestar, viewer: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """The same viewer, through nginx."""
    transport = httpx.ASGITransport(app, client=FORWARDED)  # type: ignore[arg-type]
    headers = {**viewer.headers, **OFFLOAD}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


async def test_trusted_proxy_that_asks_is_told_where_the_file_is(
    viewer: httpx.AsyncClient, behind: httpx.AsyncClient, address: str
) -> None:
    direct = await viewer.get(address)
    told = await behind.get(address)
    assert (told.status_code, told.content) == (200, b"")
    assert told.headers["X-Accel-Redirect"].startswith(f"{PREFIX}/whole/")
    for name in ("ETag", "Repr-Digest", "Content-Disposition", "Content-Type", "Cache-Control"):
        assert told.headers[name] == direct.headers[name]


async def test_range_counts_only_if_the_file_is_still_the_same(behind: httpx.AsyncClient, address: str) -> None:
    tag = (await behind.get(address)).headers["ETag"]
    same = await behind.get(address, headers={"Range": "bytes=10-19", "If-Range": tag})
    other = await behind.get(address, headers={"Range": "bytes=10-19", "If-Range": '"other"'})
    assert same.headers["X-Accel-Redirect"].startswith(f"{PREFIX}/part/")
    assert other.headers["X-Accel-Redirect"].startswith(f"{PREFIX}/whole/")
    beyond = await behind.get(address, headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416
    assert "X-Accel-Redirect" not in beyond.headers


async def test_head_is_answered_here(behind: httpx.AsyncClient, address: str) -> None:
    answer = await behind.head(address)
    assert int(answer.headers["Content-Length"]) > 0
    assert "X-Accel-Redirect" not in answer.headers


@pytest.mark.parametrize(
    ("client", "headers"), [(DIRECT, OFFLOAD), (FORWARDED, {}), (FORWARDED, {"X-Accel-Offload": "/elsewhere"})]
)
async def test_others_get_the_file_itself(
    app: Litestar, viewer: httpx.AsyncClient, address: str, client: tuple[str, int], headers: dict[str, str]
) -> None:
    transport = httpx.ASGITransport(app, client=client)  # type: ignore[arg-type]
    sent = {"Authorization": viewer.headers["Authorization"], **headers}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=sent) as other:
        answer = await other.get(address)
    assert "X-Accel-Redirect" not in answer.headers
    assert len(answer.content) == int(answer.headers["Content-Length"]) > 0


def test_offloading_needs_a_directory() -> None:
    given = {"ERP_DATABASE_URL": "postgresql://db/erp", "ERP_EXPORT_STORE_ACCEL": PREFIX}
    assert load(given).export_store_accel == PREFIX
    for wrong in ({"ERP_EXPORT_STORE": "postgres:"}, {"ERP_EXPORT_STORE_ACCEL": "exports; x"}):
        with pytest.raises(SettingsError, match="ERP_EXPORT_STORE_ACCEL"):
            load({**given, **wrong})
