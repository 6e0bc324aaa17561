"""An API key exports what its scopes allow, and reads no file with anything else in it."""

from typing import Any

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from tests.auth.keys import client_from, make_key
from tests.auth.people import slug
from tests.support.clients import UserClient
from tests.support.waiting import eventually
from tests.support.workers import Work

JOBS, SCHEDULES = "/api/v1/exports/jobs", "/api/v1/exports/schedules"
DAILY = {"cron": "0 6 * * *", "timezone": "UTC"}


async def program(app: Litestar, maker: httpx.AsyncClient, *scopes: Scope) -> httpx.AsyncClient:
    made = await make_key(maker, Scope.EXPORTS_READ, Scope.EXPORTS_WRITE, *scopes, role=Role.ADMIN)
    return client_from(app, "127.0.0.1", made.key)


async def done(client: httpx.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        seen: dict[str, Any] = (await client.get(f"{JOBS}/{job['id']}")).json()
        return seen if seen["status"] in ("succeeded", "failed") else None

    seen = await eventually(ended)
    assert seen is not None
    return seen


async def test_every_way_to_data_needs_the_scope_of_the_dataset(app: Litestar, admin: UserClient) -> None:
    async with await program(app, admin, Scope.ITEMS_READ) as items:
        catalogue = {one["name"]: one for one in (await items.get("/api/v1/exports/datasets")).json()["items"]}
        assert [name for name, one in catalogue.items() if one["allowed"]] == ["items", "all"]
        assert catalogue["users"]["scope"] == "users:read"
        schedule = (await admin.post(SCHEDULES, json={**DAILY, "spec": {"dataset": "users"}})).json()
        for answer in (
            await items.post(JOBS, json={"dataset": "users"}),
            await items.post("/api/v1/exports/estimates", json={"dataset": "users"}),
            await items.post(SCHEDULES, json={**DAILY, "spec": {"dataset": "users"}}),
            await items.post(f"{SCHEDULES}/{schedule['id']}/run"),
        ):
            assert (answer.status_code, slug(answer)) == (403, "api-key-scope"), answer.text
            assert answer.json()["scope"] == "users:read"
        assert (await items.post(JOBS, json={"dataset": "items"})).status_code == 202
    async with await program(app, admin) as nothing:
        answer = await nothing.post(JOBS, json={"dataset": "all"})
        assert (answer.status_code, slug(answer)) == (403, "api-key-scope")


async def test_a_key_reads_no_file_of_its_maker_that_holds_more_than_its_scopes(
    app: Litestar, admin: UserClient, work: Work
) -> None:
    async with await program(app, admin, Scope.ITEMS_READ) as items, work():
        users = await done(admin, (await admin.post(JOBS, json={"dataset": "users"})).json())
        own = await done(items, (await items.post(JOBS, json={"dataset": "all"})).json())
        everything = await done(admin, (await admin.post(JOBS, json={"dataset": "all"})).json())
        assert own["id"] != everything["id"]
        for job in (users, everything):
            for name in ("download", "events"):
                answer = await items.get(f"{JOBS}/{job['id']}/{name}")
                assert (answer.status_code, slug(answer)) == (403, "api-key-scope")
        answer = await items.get(f"{JOBS}/{own['id']}/download")
        assert answer.status_code == 200
        assert b"items.csv" in answer.content
        assert b"users.csv" not in answer.content
        answer = await items.post(f"{JOBS}/{own['id']}/download-url")
        assert (answer.status_code, slug(answer)) == (403, "not-for-api-keys")


async def test_the_audit_log_is_exported_by_key_and_with_its_name(app: Litestar, admin: UserClient, work: Work) -> None:
    async with await program(app, admin, Scope.AUDIT_READ) as auditor, work():
        [key] = (await admin.get("/api/v1/api-keys")).json()["items"]
        first = await done(auditor, (await auditor.post(JOBS, json={"dataset": "audit_log"})).json())
        spec = {"dataset": "audit_log", "filter": {"api_key_id": key["id"]}, "columns": ["action", "api_key"]}
        job = await done(auditor, (await auditor.post(JOBS, json=spec)).json())
        answer = await auditor.get(f"{JOBS}/{job['id']}/download")
        assert answer.text.splitlines()[:2] == ["action,api_key", f"export.submitted,{key['name']}"]
        # a minute's downloads of a file are one entry for each key, and one for the person
        for client in (auditor, auditor, admin, admin):
            assert (await client.get(f"{JOBS}/{first['id']}/download")).status_code == 200
        query = {"action": "export.downloaded", "entity_id": first["id"]}
        entries = (await admin.get("/api/v1/audit", params=query)).json()["items"]
        assert {entry["api_key_id"] for entry in entries} == {None, key["id"]}
        # the clock may pass to another minute in between
        assert len(entries) in (2, 3, 4)


async def test_a_schedule_that_a_key_wrote_runs_with_the_role_of_the_key(
    app: Litestar, super_admin: UserClient, owner: asyncpg.Connection
) -> None:
    async with await program(app, super_admin, Scope.ITEMS_READ) as items:
        made = (await items.post(SCHEDULES, json={**DAILY, "spec": {"dataset": "all"}})).json()
        assert (made["owner"], made["most_role"]) == (super_admin.user_id, "ADMIN")
        path = f"{SCHEDULES}/{made['id']}"
        # saved by its owner in person, unchanged, it is theirs
        body = {**DAILY, "spec": {"dataset": "all"}}
        assert (await super_admin.put(path, json=body)).json()["most_role"] is None
        assert (await items.put(path, json=body)).json()["most_role"] is None, "which changes nothing"
        changed = await items.put(path, json={**body, "cron": "0 7 * * *"})
        assert changed.json()["most_role"] == "ADMIN"
    assert await owner.fetchval("select count(*) from audit_log where api_key_id is not null") == 2


@pytest.mark.parametrize("scopes", [(Scope.EXPORTS_READ,), (Scope.EXPORTS_WRITE,)], ids=str)
async def test_the_scope_of_exports_alone_exports_nothing(
    app: Litestar, admin: UserClient, scopes: tuple[Scope, ...]
) -> None:
    made = await make_key(admin, *scopes, role=Role.ADMIN)
    async with client_from(app, "127.0.0.1", made.key) as client:
        assert slug(await client.post(JOBS, json={"dataset": "items"})) == "api-key-scope"
