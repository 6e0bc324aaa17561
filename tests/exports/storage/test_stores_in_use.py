"""Exports over each kind of store, from the request to the last byte, through the service itself."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service.app import create_app
from erp_service.exports.storage.base import FileKey, Store
from erp_service.operations.verify import verify
from erp_service.services import build_services
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.exports.data import many_items
from tests.exports.jobs import JOBS, done, row_of
from tests.exports.storage.stores import KINDS, ObjectServer, having
from tests.support.apps import running, services_of
from tests.support.clients import UserClient, client_of
from tests.support.settings import settings_for
from tests.support.users import token_of
from tests.support.workers import Work


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(kind: str, cluster: Cluster, database_name: str, object_server: ObjectServer, tmp_path: Path) -> Settings:
    return having(settings_for(cluster, database_name, tmp_path), kind, object_server, tmp_path)


async def test_export_is_made_downloaded_resumed_proven_and_deleted(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, settings: Settings
) -> None:
    await many_items(owner, 15_000)
    async with work():
        job = await done(viewer)
    path = f"{JOBS}/{job['id']}/download"
    whole = await viewer.get(path)
    assert whole.status_code == 200
    assert hashlib.sha256(whole.content).hexdigest() == job["result"]["sha256"]
    assert len(whole.content) > 2 * 1024 * 1024
    middle = len(whole.content) // 2
    rest = await viewer.get(path, headers={"Range": f"bytes={middle}-", "If-Range": whole.headers["ETag"]})
    assert (rest.status_code, rest.content) == (206, whole.content[middle:])
    assert await verify(settings) == []
    assert (await viewer.delete(f"{JOBS}/{job['id']}")).status_code == 204
    assert (await viewer.get(path)).status_code == 410
    assert (await row_of(owner, job["id"]))["file_key"] is None


async def test_file_that_is_gone_is_told_as_lost_and_found_by_the_proof(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, settings: Settings, store: Store
) -> None:
    async with work():
        job = await done(viewer)
    key = FileKey.read((await row_of(owner, job["id"]))["file_key"])
    assert key is not None
    await store.delete(key)
    answer = await viewer.get(f"{JOBS}/{job['id']}/download")
    assert (answer.status_code, answer.json()["type"]) == (410, "/problems/export-lost")
    (finding,) = await verify(settings)
    assert [row["fault"] for row in finding.rows] == ["it is not there"]


@pytest.fixture
async def sending_on(settings: Settings, viewer: UserClient) -> AsyncIterator[httpx.AsyncClient]:
    """The same user at an instance that redirects downloads to the store."""
    app = create_app(build_services(msgspec.structs.replace(settings, export_store_redirect=True)))
    async with running(app), client_of(app, token_of(settings, viewer.user_id)) as client:
        yield client


@pytest.mark.parametrize("kind", ["objects"], indirect=True)
async def test_download_is_sent_on_to_an_address_of_the_store_and_still_recorded(
    sending_on: httpx.AsyncClient, viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    async with work():
        job = await done(viewer)
    path = f"{JOBS}/{job['id']}/download"
    answer = await sending_on.get(path)
    recorded = "select count(*) from audit_log where action = 'export.downloaded' and entity_id = $1"
    assert await owner.fetchval(recorded, job["id"]) == 1
    direct = await viewer.get(path)
    assert answer.status_code == 307
    assert answer.headers["Cache-Control"] == "private, no-store"
    async with httpx.AsyncClient() as anybody:
        found = await anybody.get(answer.headers["Location"])
        assert found.content == direct.content
        for name in ("Content-Disposition", "Content-Type"):
            assert found.headers[name] == direct.headers[name]
        head = await sending_on.head(path)
        assert head.status_code == 307
        assert (await anybody.head(head.headers["Location"])).status_code == 200
    unchanged = await sending_on.get(path, headers={"If-None-Match": direct.headers["ETag"]})
    assert unchanged.status_code == 304


@pytest.mark.parametrize("kind", ["objects"], indirect=True)
async def test_who_lost_the_right_gets_no_address(
    sending_on: httpx.AsyncClient, viewer: UserClient, owner: asyncpg.Connection, work: Work
) -> None:
    async with work():
        job = await done(viewer)
    path = f"{JOBS}/{job['id']}/download"
    await owner.execute("update users set is_active = false where id = $1", viewer.user_id)
    answer = await sending_on.get(path)
    assert answer.status_code in (401, 403)
    assert "Location" not in answer.headers


@pytest.mark.parametrize("kind", ["objects"], indirect=True)
async def test_download_while_the_store_is_away_says_when_to_come_again(
    app: Litestar, viewer: httpx.AsyncClient, work: Work, object_server: ObjectServer
) -> None:
    async with work():
        job = await done(viewer)
    away: Any = object_server.store("x", endpoint="http://127.0.0.1:1")
    services = services_of(app)
    broken = msgspec.structs.replace(services.exports, store=away)
    app.state["services"] = msgspec.structs.replace(services, exports=broken)
    answer = await viewer.get(f"{JOBS}/{job['id']}/download")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/export-store-unavailable")
    assert answer.headers["Retry-After"] == "5"
