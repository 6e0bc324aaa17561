"""Who acts for whom with exports: the audit log names both, and nobody gets more rights than they have."""

from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.principals import command
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.exports.context import ExportContext
from erp_service.exports.schedules import due
from erp_service.operations.jobs.service import cancel_job, retry_job
from erp_service.settings import Settings
from tests.exports.jobs import JOBS, done, submitted
from tests.exports.schedules.examples import DAILY, SCHEDULES, made
from tests.support.clients import UserClient
from tests.support.workers import Work

NOW = {"is_active": True, "cron": "*/5 * * * *"}


async def audited(owner: asyncpg.Connection, action: str, of: str | None = None) -> tuple[Any, ...]:
    """Who did it, on whose behalf, and by which way: of the newest entry, or the newest about one object."""
    return tuple(
        await owner.fetchrow(
            "select user_id, on_behalf_of, actor from audit_log"
            " where action = $1 and entity_id = coalesce($2, entity_id) order by id desc limit 1",
            action,
            of,
        )
    )


async def make_due(owner: asyncpg.Connection, schedule_id: str) -> None:
    await owner.execute("update export_schedules set next_run_at = now() where id = $1::text::uuid", schedule_id)


async def test_admin_who_rewrites_and_runs_the_schedule_of_a_super_admin_is_named_beside_them(
    super_admin: UserClient, admin: UserClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(super_admin)
    both = (admin.user_id, super_admin.user_id, None)
    where = f"{SCHEDULES}/{schedule['id']}"

    answer = await admin.post(f"{where}/run")
    assert (answer.status_code, answer.json()["created_by"]) == (202, super_admin.user_id)
    assert await audited(owner, "schedule.run") == await audited(owner, "export.submitted") == both

    answer = await admin.put(where, json={**DAILY, **NOW})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["changed_by"], answer.json()["most_role"]) == (admin.user_id, "ADMIN")
    assert await audited(owner, "schedule.updated") == both

    await owner.execute("update export_jobs set status = 'canceled'")
    await make_due(owner, schedule["id"])
    assert await due.run_next(resources)
    at_its_time = (admin.user_id, super_admin.user_id, "schedule")
    assert await audited(owner, "schedule.run") == await audited(owner, "export.submitted") == at_its_time

    assert (await admin.delete(where)).status_code == 204
    assert await audited(owner, "schedule.deleted") == both


async def test_run_at_its_time_is_the_owners_own_if_nobody_else_wrote_it(
    viewer: UserClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(viewer)
    assert (schedule["changed_by"], schedule["most_role"]) == (viewer.user_id, None)
    await make_due(owner, schedule["id"])
    assert await due.run_next(resources)
    assert await audited(owner, "export.submitted") == (viewer.user_id, None, "schedule")


async def test_schedule_never_runs_with_more_rights_than_who_wrote_it_last(
    super_admin: UserClient, admin: UserClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    """The owner may read the users, and whoever wrote this, as a role of the time says, may not."""
    schedule = await made(super_admin, spec={"dataset": "users"})
    where = f"{SCHEDULES}/{schedule['id']}"
    await owner.execute("update export_schedules set changed_by = $1, most_role = 'STAFF'", admin.user_id)

    await make_due(owner, schedule["id"])
    assert await due.run_next(resources)
    assert (await super_admin.get(where)).json()["last_error"]["type"] == "/problems/forbidden"
    assert (await super_admin.post(f"{where}/run")).status_code == 403
    assert await owner.fetchval("select count(*) from export_jobs") == 0

    # the owner saves it, and thereby stands for it
    answer = await super_admin.put(where, json={**DAILY, "spec": {"dataset": "users"}})
    assert (answer.json()["changed_by"], answer.json()["most_role"]) == (super_admin.user_id, None)
    assert (await super_admin.post(f"{where}/run")).status_code == 202


async def test_one_who_lost_the_role_writes_for_the_owner_what_they_may_read_themselves(
    super_admin: UserClient, admin: UserClient, owner: asyncpg.Connection
) -> None:
    """A schedule of everything that its owner may read holds no more than what its writer may read."""
    schedule = await made(super_admin, spec={"dataset": "all"})
    await owner.execute("update export_schedules set changed_by = $1, most_role = 'VIEWER'", admin.user_id)
    job = (await super_admin.post(f"{SCHEDULES}/{schedule['id']}/run")).json()
    spec = await owner.fetchval("select spec->>'datasets' from export_jobs where id = $1::text::uuid", job["id"])
    assert "items" in spec
    assert "users" not in spec


@pytest.mark.parametrize(("role", "other", "least"), [("VIEWER", "ADMIN", "VIEWER"), ("ADMIN", "STAFF", "STAFF")])
def test_lesser_of_two_roles(role: str, other: str, least: str) -> None:
    assert Role(role).at_most(Role(other)) is Role(least)
    assert Role(role).at_most(None) is Role(role)


async def test_admin_who_handles_the_export_of_another_is_named_beside_them(
    viewer: UserClient, admin: UserClient, owner: asyncpg.Connection, work: Work
) -> None:
    both = (admin.user_id, viewer.user_id, None)
    waiting = f"{JOBS}/{await submitted(viewer)}"
    assert (await admin.post(f"{waiting}/cancel")).status_code == 200
    assert await audited(owner, "export.canceled") == both
    assert (await admin.post(f"{waiting}/retry")).status_code == 202
    assert await audited(owner, "export.submitted") == both
    async with work():
        job = await done(viewer)
    finished = f"{JOBS}/{job['id']}"
    assert await audited(owner, "export.succeeded", job["id"]) == (None, viewer.user_id, "erp worker")
    assert (await admin.get(f"{finished}/download")).status_code == 200
    assert await audited(owner, "export.downloaded") == both
    assert (await admin.post(f"{finished}/download-url")).status_code == 200
    assert await audited(owner, "export.address_given") == both
    assert (await admin.delete(finished)).status_code == 204
    assert await audited(owner, "export.deleted") == both


async def test_download_by_a_signed_address_is_not_taken_for_the_user_in_person(
    viewer: UserClient, client: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    async with work():
        job = await done(viewer)
    address = (await viewer.post(f"{JOBS}/{job['id']}/download-url")).json()["url"]
    assert (await client.get(address)).status_code == 200
    assert await audited(owner, "export.downloaded") == (viewer.user_id, None, "signed address")


async def test_operator_of_the_queue_is_named_with_account_and_host(
    viewer: UserClient, owner: asyncpg.Connection, database: Database, settings: Settings
) -> None:
    job = await submitted(viewer)
    row = await owner.fetchrow("select id from export_jobs where id = $1::text::uuid", job)
    async with database.write() as db:
        await cancel_job(db, command("erp queue"), row["id"])
    canceled = await audited(owner, "export.canceled")
    assert canceled[:2] == (None, viewer.user_id)
    assert canceled[2].startswith("command:")
    async with database.write() as db:
        await retry_job(db, command("erp queue"), row["id"])
    assert await audited(owner, "export.submitted") == await audited(owner, "export.retried") == canceled
