"""The credential that an import was submitted with is judged again when the import runs."""

from typing import Any

import asyncpg
import pytest
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.settings import Settings
from tests.auth.keys import KEYS, MadeKey, client_from, make_key
from tests.imports.jobs import ITEMS, QUEUES, ended, submitted
from tests.support.clients import UserClient
from tests.support.databases import connected
from tests.support.waiting import eventually
from tests.support.workers import Work

SCOPES = (Scope.IMPORTS_READ, Scope.IMPORTS_WRITE, Scope.ITEMS_WRITE)


async def submitted_by_key(
    app: Litestar, maker: UserClient, *, role: Role = Role.ADMIN, content: str = ITEMS, **query: Any
) -> tuple[MadeKey, dict[str, Any]]:
    key = await make_key(maker, *SCOPES, role=role)
    async with client_from(app, "127.0.0.1", key.key) as program:
        return key, await submitted(program, "items", content, **query)


async def nothing_but_the_refusal(job: dict[str, Any], owner: asyncpg.Connection, slug: str, word: str) -> None:
    assert job["status"] == "failed"
    assert (job["error"]["type"], job["error"]["status"]) == (f"/problems/{slug}", 403)
    assert word in job["error"]["detail"]
    assert await owner.fetchval("select count(*) from items") == 0
    assert await owner.fetchval("select count(*) from imports") == 0


async def test_what_a_valid_key_imports_names_it(
    app: Litestar, admin: UserClient, work: Work, owner: asyncpg.Connection
) -> None:
    key, job = await submitted_by_key(app, admin)
    async with work(queues=QUEUES):
        assert (await ended(admin, job))["status"] == "succeeded"
    entry = await owner.fetchrow("select user_id, api_key_id from audit_log where action = 'import.items'")
    assert tuple(entry) == (admin.user_id, key.id)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_key_that_was_revoked_meanwhile_imports_nothing(
    app: Litestar, admin: UserClient, work: Work, owner: asyncpg.Connection, dry_run: bool
) -> None:
    key, job = await submitted_by_key(app, admin, dry_run=dry_run)
    assert (await admin.delete(f"{KEYS}/{key.id}")).status_code == 204
    async with work(queues=QUEUES):
        job = await ended(admin, job)
    await nothing_but_the_refusal(job, owner, "import-key-refused", "revoked")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("expires_at = now() - interval '1 s'", "expired"),
        ("scopes = array_remove(scopes, 'items:write')", "items:write"),
        ("scopes = array_remove(scopes, 'imports:write')", "imports:write"),
    ],
)
async def test_a_key_that_is_not_what_it_was_imports_nothing(
    app: Litestar, admin: UserClient, work: Work, owner: asyncpg.Connection, change: str, word: str
) -> None:
    _, job = await submitted_by_key(app, admin)
    # nobody but the owner of the database can change a key; time does that
    await owner.execute(f"set session_replication_role = replica; update api_keys set {change}; reset all")
    async with work(queues=QUEUES):
        job = await ended(admin, job)
    await nothing_but_the_refusal(job, owner, "import-key-refused", word)


async def test_a_key_whose_maker_lost_the_role_imports_nothing(
    app: Litestar, admin: UserClient, super_admin: UserClient, work: Work, owner: asyncpg.Connection
) -> None:
    _, job = await submitted_by_key(app, admin)
    body = {"role": "STAFF", "reason": "another job"}
    assert (await super_admin.post(f"/api/v1/users/{admin.user_id}/role", json=body)).status_code == 200
    async with work(queues=QUEUES):
        job = await ended(super_admin, job)
    await nothing_but_the_refusal(job, owner, "import-forbidden", "ADMIN")


async def test_movements_of_the_past_need_the_role_still_when_they_run(
    admin: UserClient, super_admin: UserClient, work: Work
) -> None:
    job = await submitted(admin, "movements", "occurred_at,type,sku,location,quantity\n", history=True)
    body = {"role": "STAFF", "reason": "another job"}
    assert (await super_admin.post(f"/api/v1/users/{admin.user_id}/role", json=body)).status_code == 200
    async with work(queues=QUEUES):
        job = await ended(super_admin, job)
    assert job["error"]["type"] == "/problems/import-forbidden"


@pytest.mark.parametrize("loss", ["key", "role"])
async def test_a_right_that_is_lost_while_the_import_runs_stops_its_commit(
    app: Litestar,
    admin: UserClient,
    super_admin: UserClient,
    work: Work,
    owner: asyncpg.Connection,
    settings: Settings,
    loss: str,
) -> None:
    key, job = await submitted_by_key(app, admin)
    async with connected(settings.migration_database_url or "") as other, work(queues=QUEUES):
        # the insert of the same sku waits for this transaction
        transaction = other.transaction()
        await transaction.start()
        await other.execute("insert into items (sku, name, unit) values ('A', 'Apples', 'KGM')")

        async def waits() -> bool:
            sql = "select count(*) from pg_stat_activity where application_name like 'erp import%' and wait_event_type"
            return bool(await owner.fetchval(f"{sql} = 'Lock' and datname = current_database()"))

        await eventually(waits)
        if loss == "key":
            assert (await admin.delete(f"{KEYS}/{key.id}")).status_code == 204
        else:
            body = {"role": "STAFF", "reason": "another job"}
            assert (await super_admin.post(f"/api/v1/users/{admin.user_id}/role", json=body)).status_code == 200
        await transaction.rollback()
        job = await ended(super_admin, job)
    if loss == "key":
        await nothing_but_the_refusal(job, owner, "import-key-refused", "revoked")
    else:
        await nothing_but_the_refusal(job, owner, "import-forbidden", "ADMIN")
