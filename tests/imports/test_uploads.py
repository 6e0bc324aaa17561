"""What clients send as a file to import, and what they should not get by it."""

import asyncio
import contextlib
import errno
import gzip
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar

from erp_service import errors
from erp_service.access.principals import KeyGrant, Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.exports.context import ExportContext
from erp_service.exports.problems import StoreFull
from erp_service.exports.storage.base import FileHeaders, FileKey, Sink
from erp_service.exports.storage.files import FileStore
from erp_service.imports.jobs import maintenance, service, upload
from erp_service.imports.jobs.problems import NoRoomToImport, UploadTooSlow
from erp_service.imports.jobs.run import attempt
from erp_service.imports.jobs.run.source import NoRoom
from erp_service.imports.jobs.upload import Patience
from erp_service.settings import Settings
from tests.imports.jobs import ITEMS, JOBS, MOVEMENTS, QUEUES, done, ended, submitted
from tests.support.apps import services_of
from tests.support.clients import SignIn
from tests.support.waiting import eventually
from tests.support.workers import Work

MOST = 64 * 1024
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, import_bytes=MOST)


async def stored(app: Litestar) -> list[str]:
    return [str(file.key) async for file in services_of(app).exports.store.list_files()]


async def post(client: httpx.AsyncClient, content: Any, dataset: str = "items", **headers: str) -> httpx.Response:
    return await client.post(JOBS, params={"dataset": dataset}, content=content, headers={**CSV, **headers})


async def test_endless_bodies_are_cut_off_and_nothing_of_them_stays(app: Litestar, admin: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 8192
            yield b"A" * 8192

    answer = await post(admin, endless())
    assert answer.status_code == 413
    assert answer.json()["type"].endswith("/import-too-large")
    assert sent < 2 * MOST
    assert await stored(app) == []
    announced = await post(admin, b"", **{"Content-Length": str(MOST + 1)})
    assert announced.status_code == 413


async def test_a_bomb_is_bounded(admin: httpx.AsyncClient, work: Work) -> None:
    bomb = gzip.compress(b"sku,name,unit\n" + b"A,B,C\n" * 2_000_000)
    assert len(bomb) < MOST
    async with work(queues=QUEUES):
        job = await done(admin, "items", bomb)
    assert job["status"] == "failed"
    assert "more than 65,536 bytes when it is unpacked" in job["error"]["detail"]


async def test_bodies_that_come_slowly_hold_no_connection(app: Litestar, admin: httpx.AsyncClient) -> None:
    services, waits, end = services_of(app), asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield ITEMS[:10].encode()
        waits.set()
        await end.wait()
        yield ITEMS[10:].encode()

    request = asyncio.create_task(post(admin, slow()))
    await waits.wait()
    assert services.database.pool()["in_use"] == 0
    end.set()
    assert (await request).status_code == 202


@pytest.mark.parametrize("bytes_", [0, 500])
async def test_a_client_that_stalls_or_trickles_is_cut_off(app: Litestar, bytes_: int) -> None:
    async def receive() -> Mapping[str, Any]:
        if not bytes_:
            await asyncio.Event().wait()
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"A" * bytes_, "more_body": True}

    exports = services_of(app).exports
    patience = Patience(window=0.02, least=MOST // 2)
    with pytest.raises(UploadTooSlow):
        await upload.store_body(exports, receive, UUID(int=7), "csv", patience=patience)
    assert await stored(app) == []


async def test_a_client_that_hangs_up_leaves_nothing(app: Litestar) -> None:
    pieces: Iterator[dict[str, Any]] = iter(
        [{"type": "http.request", "body": b"sku", "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> Mapping[str, Any]:
        return next(pieces)

    with pytest.raises(errors.Malformed):
        await upload.store_body(services_of(app).exports, receive, UUID(int=7), "csv")
    assert await stored(app) == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Type": "application/vnd.ms-excel"}, 202),
        ({"Content-Type": "application/x-ndjson; charset=utf-8"}, 202),
    ],
)
async def test_media_types(admin: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    assert (await post(admin, ITEMS.encode(), **headers)).status_code == status


async def test_an_empty_body_is_refused(app: Litestar, admin: httpx.AsyncClient) -> None:
    assert (await post(admin, b"")).status_code == 422
    assert await stored(app) == []


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\windows\\\\a.csv"', "a.csv"),
        ('attachment; filename=".."', "items.csv"),
        ("attachment; filename*=UTF-8''Lager%20f%C3%BCr%2F2026.csv", "2026.csv"),
        ("attachment; filename=a.csv; filename*=UTF-8''k%C3%BCche.csv", "küche.csv"),
        (None, "items.csv"),
    ],
)
def test_names_of_files_are_names(disposition: str | None, name: str) -> None:
    assert upload.filename(disposition, "items", "csv") == name


async def test_parameters_are_checked_before_the_file_is_taken(app: Litestar, admin: httpx.AsyncClient) -> None:
    for query in (
        {"dataset": "users"},
        {"dataset": "items", "mode": "replace"},
        {"dataset": "movements", "mode": "upsert"},
        {"dataset": "items", "timezone": "Mars/Base"},
        {"dataset": "items", "encoding": "base64"},
        {"dataset": "items", "delimiter": "x"},
        {"dataset": "items", "colour": "red"},
    ):
        answer = await admin.post(JOBS, params=query, content=ITEMS.encode(), headers=CSV)
        assert answer.status_code == 422, query
    assert await stored(app) == []


async def test_what_single_requests_may_not_do_a_file_may_not(
    staff: httpx.AsyncClient, viewer: httpx.AsyncClient, admin: httpx.AsyncClient, work: Work
) -> None:
    assert (await post(viewer, MOVEMENTS.encode(), "movements")).status_code == 403
    for dataset in ("items", "locations"):
        assert (await post(staff, ITEMS.encode(), dataset)).status_code == 403
    adjusting = MOVEMENTS + "2026-01-02T10:00:00Z,ADJUSTMENT,A,MAIN,-1,,\n"
    async with work(queues=QUEUES):
        await done(admin, "items", ITEMS)
        await done(admin, "locations", "code,name,location_type\nMAIN,Main,WAREHOUSE\n")
        job = await done(staff, "movements", adjusting)
        assert [(fault["line"], fault["column"]) for fault in job["faults"]] == [(5, "type")]
        assert (await done(admin, "movements", adjusting))["status"] == "succeeded"


def test_a_key_needs_the_scope_of_the_dataset_too() -> None:
    who = Principal(1, Role.ADMIN, key=KeyGrant(1, frozenset({Scope.IMPORTS_WRITE, Scope.ITEMS_WRITE})))
    service.require_right(who, "items")
    for dataset in ("locations", "movements"):
        with pytest.raises(errors.Forbidden):
            service.require_right(who, dataset)


async def test_nobody_reads_the_import_of_another(staff: httpx.AsyncClient, sign_in: SignIn) -> None:
    admin, other = await sign_in(Role.ADMIN), await sign_in(Role.STAFF)
    job = await submitted(staff, "movements", MOVEMENTS)
    path = f"{JOBS}/{job['id']}"
    for method, address in (("GET", path), ("GET", f"{path}/report"), ("GET", f"{path}/events"), ("DELETE", path)):
        assert (await other.request(method, address)).status_code == 404, address
    assert (await other.post(f"{path}/cancel")).status_code == 404
    assert (await other.get(JOBS)).json()["items"] == []
    assert (await other.get(JOBS, params={"mine": False})).status_code == 403
    assert [one["id"] for one in (await admin.get(JOBS, params={"mine": False})).json()["items"]] == [job["id"]]
    assert (await staff.post(f"{path}/undo", json={"reason": "mine"})).status_code == 403


async def test_who_lost_the_role_meanwhile_imports_nothing(
    admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    job = await submitted(admin, "items", ITEMS)
    await owner.execute("update users set role = 'STAFF' where id = $1", job["created_by"])
    async with work(queues=QUEUES):

        async def failed() -> bool:
            status: str = await owner.fetchval("select status from import_jobs where id = $1", job["id"])
            return status == "failed"

        await eventually(failed)
    assert await owner.fetchval("select error ->> 'type' from import_jobs") == "/problems/import-forbidden"
    assert await owner.fetchval("select count(*) from items") == 0


async def test_a_job_is_followed_until_it_has_ended(admin: httpx.AsyncClient, work: Work) -> None:
    job = await submitted(admin, "items", ITEMS)
    async with work(queues=QUEUES):
        async with admin.stream("GET", f"{JOBS}/{job['id']}/events") as stream:
            lines = [line async for line in stream.aiter_lines() if line.startswith(("event:", "data:"))]
        assert lines[-2] == "event: done"
        last = json.loads(lines[-1].removeprefix("data: "))
        assert last["status"] == "succeeded"
        answer = await admin.get(f"{JOBS}/{job['id']}", headers={"Prefer": "wait=1"})
        assert answer.headers["Preference-Applied"] == "wait=1"
        known = {"If-None-Match": answer.headers["ETag"]}
        assert (await admin.get(f"{JOBS}/{job['id']}", headers=known)).status_code == 304


async def test_a_second_import_of_one_user_waits_and_can_be_canceled(
    admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    first, second, third = [await submitted(admin, "items", f"sku,name,unit\n{n},N,PCS\n") for n in range(3)]
    waiting = await owner.fetch("select id from import_jobs where queue_job_id is null order by id")
    assert [str(row["id"]) for row in waiting] == [second["id"], third["id"]]
    assert (await admin.delete(f"{JOBS}/{second['id']}")).status_code == 409
    assert (await admin.post(f"{JOBS}/{second['id']}/cancel")).json()["status"] == "canceled"
    async with work(queues=QUEUES):
        for job in (first, third):
            assert (await ended(admin, job))["status"] == "succeeded"
    assert (await admin.post(f"{JOBS}/{first['id']}/cancel")).status_code == 409
    assert (await admin.delete(f"{JOBS}/{first['id']}")).status_code == 204
    assert (await admin.get(f"{JOBS}/{first['id']}")).status_code == 404


async def test_files_go_when_their_time_is_over(
    app: Litestar, admin: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    async with work(queues=QUEUES) as services:
        good, bad = await done(admin, "items", ITEMS), await done(admin, "items", "sku,name,unit\nA,,PCS\n")
        assert len(await stored(app)) == 3
        exports = services.find(ExportContext)
        await maintenance.remove_unnamed(exports, older_than=datetime.now(UTC))
        assert len(await stored(app)) == 3
        await owner.execute("update import_jobs set expires_at = now() - interval '1 hour'")
        await maintenance.expire(exports.database)
        assert await maintenance.remove_unnamed(exports, older_than=datetime.now(UTC)) == 3
    assert await stored(app) == []
    assert (await admin.get(f"{JOBS}/{good['id']}")).json()["status"] == "expired"
    assert (await admin.get(f"{JOBS}/{bad['id']}")).json()["status"] == "failed"
    assert (await admin.get(f"{JOBS}/{bad['id']}/report")).status_code == 404


async def test_nuls_and_long_lines_are_named(admin: httpx.AsyncClient, work: Work) -> None:
    rows = "sku,name,unit\nA,Ap\0ples,KGM\n" + '{"sku":"B"}\n' + "B," + "x" * 40_000 + ",PCS\n"
    lines = '{"sku": "A", "name": "a\\u0000b", "unit": "KGM"}\nnonsense\n{"sku": "B", "name": 1, "unit": ["x"]}\n'
    async with work(queues=QUEUES):
        first, second = await done(admin, "items", rows), await done(admin, "items", lines)
    assert {fault["line"] for fault in first["faults"]} == {2, 3, 4}
    assert {fault["line"] for fault in second["faults"]} == {1, 2}


async def test_a_full_store_takes_no_file_and_says_so(app: Litestar) -> None:
    class Full(FileStore):
        @contextlib.asynccontextmanager
        async def writing(self, key: FileKey, headers: FileHeaders | None = None) -> AsyncIterator[Sink]:
            raise OSError(errno.ENOSPC, "full")
            yield

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": b"sku", "more_body": False}

    exports = msgspec.structs.replace(services_of(app).exports, store=Full(Path("/nowhere")))
    with pytest.raises(StoreFull):
        await upload.store_body(exports, receive, UUID(int=7), "csv")


def test_a_full_disk_of_the_database_or_the_worker_has_its_own_problem() -> None:
    for fault in (asyncpg.DiskFullError("full"), NoRoom()):
        assert isinstance(attempt.problem_of(fault), NoRoomToImport)
