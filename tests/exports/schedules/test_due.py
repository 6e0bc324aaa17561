"""Schedules that are due, with several workers that look at the same time."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.exports.context import ExportContext
from erp_service.exports.schedules import due as ticks
from erp_service.settings import Settings
from tests.exports.jobs import reaches, submitted
from tests.exports.schedules.examples import SCHEDULES, made
from tests.support.company import COMPANY
from tests.support.waiting import eventually
from tests.support.workers import Work


async def due(owner: asyncpg.Connection, schedule_id: str, ago: str = "1 second") -> None:
    await owner.execute(
        "update export_schedules set next_run_at = now() - $2::text::interval, again_at = null"
        " where id = $1::text::uuid",
        schedule_id,
        ago,
    )


async def jobs(owner: asyncpg.Connection) -> int:
    return int(await owner.fetchval("select count(*) from export_jobs"))


async def shown(client: httpx.AsyncClient, schedule_id: str) -> dict[str, Any]:
    return dict((await client.get(f"{SCHEDULES}/{schedule_id}")).json())


async def looked(resources: ExportContext) -> int:
    """Runs all schedules that are due; returns how many there were."""
    ran = 0
    while await ticks.run_next(resources):
        ran += 1
    return ran


async def test_workers_that_look_at_once_make_one_job_for_each_tick(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    ids = [(await made(viewer, spec={"dataset": "items", "force_new": True}))["id"] for _ in range(6)]
    for round_ in range(1, 4):
        for schedule_id in ids:
            await due(owner, schedule_id)
        ran = await asyncio.gather(*(looked(resources) for _ in range(5)))
        assert sum(ran) == len(ids)
        assert await jobs(owner) == round_ * len(ids)
    assert await owner.fetchval("select count(*) from audit_log where action = 'schedule.run'") == 18


async def test_runs_that_were_missed_are_made_good_once(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(viewer, cron="*/5 * * * *")
    await due(owner, schedule["id"], "3 days")
    assert await looked(resources) == 1
    assert await jobs(owner) == 1
    found = await shown(viewer, schedule["id"])
    assert found["last_job"]["status"] == "queued"
    assert found["last_error"] is None
    ahead = await owner.fetchval("select next_run_at - now() from export_schedules")
    assert 0 < ahead.total_seconds() <= 300


async def test_job_of_a_tick_belongs_to_the_owner_and_is_audited_as_theirs(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(viewer)
    await due(owner, schedule["id"])
    await looked(resources)
    job = await owner.fetchrow("select id, user_id from export_jobs")
    assert job["user_id"] == schedule["owner"]
    entries = await owner.fetch("select action, user_id, request_id from audit_log where action <> 'schedule.created'")
    assert {(entry["action"], entry["user_id"]) for entry in entries} == {
        ("export.submitted", schedule["owner"]),
        ("schedule.run", schedule["owner"]),
    }
    assert {entry["request_id"] for entry in entries} == {f"schedule {schedule['id']}"}


async def test_inactive_and_future_schedules_do_not_run(viewer: httpx.AsyncClient, resources: ExportContext) -> None:
    await made(viewer)
    await made(viewer, is_active=False)
    assert await looked(resources) == 0


async def test_role_that_was_taken_away_refuses_the_run_and_the_schedule_stays(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(admin, spec={"dataset": "audit_log"})
    await owner.execute("update users set role = 'VIEWER' where id = $1", schedule["owner"])
    for _ in range(2):
        await due(owner, schedule["id"])
        assert await looked(resources) == 1
    assert await jobs(owner) == 0
    row = await owner.fetchrow("select last_error->>'type' as type, next_run_at > now() as ahead from export_schedules")
    assert (row["type"], row["ahead"]) == ("/problems/forbidden", True)
    # reported once, not at each run
    assert await owner.fetchval("select count(*) from audit_log where action = 'schedule.refused'") == 1
    await owner.execute("update users set role = 'ADMIN' where id = $1", schedule["owner"])
    await due(owner, schedule["id"])
    assert await looked(resources) == 1
    assert await jobs(owner) == 1
    assert await owner.fetchval("select last_error is null from export_schedules")


async def test_schedules_of_a_deactivated_owner_do_not_run(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(viewer)
    await owner.execute("update users set is_active = false where id = $1", schedule["owner"])
    await due(owner, schedule["id"])
    await looked(resources)
    assert await jobs(owner) == 0
    problem = await owner.fetchval("select last_error->>'type' from export_schedules where is_active")
    assert problem == "/problems/export-forbidden"


@pytest.mark.parametrize(
    "spoiled",
    [
        'spec = \'{"dataset": "gone"}\'',
        'spec = \'{"dataset": "items", "columns": ["price"]}\'',
        "spec = '[]'",
    ],
)
async def test_spec_that_is_no_longer_right_is_told_and_holds_up_nobody(
    spoiled: str, viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    bad, good = await made(viewer), await made(viewer)
    await due(owner, bad["id"], "2 hours")
    await due(owner, good["id"])
    await owner.execute(f"update export_schedules set {spoiled} where id = $1::text::uuid", bad["id"])
    assert await looked(resources) == 2
    assert (await shown(viewer, good["id"]))["last_job"]["status"] == "queued"
    row = await owner.fetchrow("select * from export_schedules where id = $1::text::uuid", bad["id"])
    assert '"/problems/invalid"' in row["last_error"]
    assert row["is_active"]


async def test_fault_of_the_database_under_one_schedule_holds_up_nobody(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    bad, good = await made(viewer, spec={"dataset": "locations"}), await made(viewer)
    await due(owner, bad["id"], "2 hours")
    await due(owner, good["id"])
    await owner.execute("alter table export_jobs add constraint broken check (dataset <> 'locations')")
    assert await looked(resources) == 2
    assert (await shown(viewer, good["id"]))["last_job"]["status"] == "queued"
    assert (await shown(viewer, bad["id"]))["last_error"]["type"] == "/problems/export-failed"


async def test_schedule_whose_next_run_cannot_be_reckoned_is_switched_off_and_says_why(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(viewer)
    await due(owner, schedule["id"])
    await owner.execute("update export_schedules set timezone = 'Europe/Atlantis'")
    assert await looked(resources) == 1
    found = await shown(viewer, schedule["id"])
    assert (found["is_active"], found["next_run_at"]) == (False, None)
    assert found["last_error"]["errors"][0]["pointer"] == "/timezone"


async def test_run_waits_for_room_among_the_owners_exports_and_is_given_up_after_a_while(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext, settings: Settings
) -> None:
    for _ in range(COMPANY.exports_running_per_user + COMPANY.exports_waiting_per_user):
        await submitted(viewer)
    full = await jobs(owner)
    # while its last request still waits, a new one would be the same job
    schedule = await made(viewer, spec={"dataset": "locations"})
    await due(owner, schedule["id"])
    assert await looked(resources) == 1
    assert await looked(resources) == 0, "again in ten seconds, not at once"
    row = await owner.fetchrow("select *, again_at - now() as pause from export_schedules")
    assert row["last_error"] is None
    assert row["next_run_at"] < row["again_at"]
    assert 5 < row["pause"].total_seconds() <= 10

    await due(owner, schedule["id"], "11 minutes")
    assert await looked(resources) == 1
    found = await shown(viewer, schedule["id"])
    assert found["last_error"]["type"] == "/problems/too-many-exports"
    assert await jobs(owner) == full

    await due(owner, schedule["id"])
    await looked(resources)
    await owner.execute("update export_jobs set status = 'canceled' where queue_job_id is null")
    await owner.execute("update export_schedules set again_at = now()")
    assert await looked(resources) == 1
    assert (await shown(viewer, schedule["id"]))["last_job"]["status"] == "queued"


async def test_a_run_joins_the_same_request_that_still_waits(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(viewer)
    for _ in range(3):
        await due(owner, schedule["id"])
        await looked(resources)
    assert await jobs(owner) == 1


async def test_a_rolled_back_tick_is_run_by_the_next_look(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    """A worker that dies in the middle leaves nothing, and delays only its own schedule meanwhile."""
    one, two = await made(viewer), await made(viewer, spec={"dataset": "locations"})
    await due(owner, one["id"], "1 hour")
    await due(owner, two["id"])
    dying = owner.transaction()
    await dying.start()
    await owner.execute("select from export_schedules where id = $1::text::uuid for update", one["id"])
    assert await looked(resources) == 1
    assert (await shown(viewer, two["id"]))["last_job"] is not None
    await dying.rollback()
    assert await looked(resources) == 1
    assert (await shown(viewer, one["id"]))["last_job"] is not None


async def test_a_worker_ticks_while_it_runs_and_through_a_loss_of_its_connections(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, resources: ExportContext
) -> None:
    schedule = await made(viewer, spec={"dataset": "items", "force_new": True})

    async def ran() -> bool:
        return bool(await owner.fetchval("select next_run_at > now() from export_schedules"))

    async with work(queues=None, grace_seconds=1):
        for round_ in range(1, 3):
            await due(owner, schedule["id"])
            await eventually(ran)
            assert await jobs(owner) == round_
            cut = await owner.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where application_name = 'erp worker' and datname = current_database()"
            )
            assert cut > 0, "the worker had connections to lose"
    await due(owner, schedule["id"])
    assert await looked(resources) == 1, "nobody looks after the worker has ended"


async def test_schedule_of_an_earlier_version_in_a_zone_that_is_none_still_runs(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(viewer)
    await owner.execute("update export_schedules set timezone = 'right/Europe/Berlin'")
    await due(owner, schedule["id"])
    assert await looked(resources) == 1
    found = await shown(viewer, schedule["id"])
    assert (found["last_error"], found["is_active"]) == (None, True)
    assert found["next_run_at"] == schedule["next_run_at"]


async def spec_of_job(owner: asyncpg.Connection) -> dict[str, Any]:
    return dict(json.loads(await owner.fetchval("select spec from export_jobs order by id desc limit 1")))


YESTERDAY = {"dataset": "stock_movements", "filter": {"from": "yesterday", "to": "today"}, "filename": "{date}.csv"}


async def test_yesterday_of_a_schedule_is_that_of_its_zone(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(viewer, spec=YESTERDAY, timezone="Pacific/Kiritimati")
    assert schedule["spec"]["filter"] == YESTERDAY["filter"], "it stays as it was sent"
    await due(owner, schedule["id"])
    assert await looked(resources) == 1
    start = "select date_trunc('day', now() at time zone $1) at time zone $1"
    today = await owner.fetchval(start, "Pacific/Kiritimati")
    found = await spec_of_job(owner)
    assert found["filter"] == {
        "from": f"{today - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}", "to": f"{today:%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip
    # the name too, though the cells stay in UTC
    assert (found["filename_timezone"], "timezone" in found) == ("Pacific/Kiritimati", False)


async def test_name_of_a_schedules_file_has_the_date_of_its_zone(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    zones = ("Pacific/Kiritimati", "Pacific/Pago_Pago")  # 25 hours apart: never the same date
    places = [(await made(viewer, spec=YESTERDAY, timezone=zone))["id"] for zone in zones]
    async with work():
        for schedule_id, zone in zip(places, zones, strict=True):
            job = (await viewer.post(f"{SCHEDULES}/{schedule_id}/run")).json()
            job = await reaches(viewer, job["id"], "succeeded")
            query = "select to_char($1::text::timestamptz at time zone $2, 'YYYY-MM-DD')"
            day = await owner.fetchval(query, job["snapshot_at"], zone)
            assert job["result"]["filename"] == f"{day}.csv"


async def test_zone_of_the_spec_comes_before_that_of_the_schedule(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    schedule = await made(viewer, spec={**YESTERDAY, "timezone": "UTC"}, timezone="Pacific/Kiritimati")
    await due(owner, schedule["id"])
    await looked(resources)
    found = await spec_of_job(owner)
    assert found["filter"]["to"].endswith("T00:00:00Z")
    assert found.keys() == {"filter", "filename"}


async def test_late_run_is_for_the_period_in_which_it_was_due(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    """A report of the day that is due at 23:55 and made after midnight is one of the day that has ended."""
    spec = {"dataset": "stock_movements", "filter": {"from": "today"}}
    schedule = await made(viewer, spec=spec, timezone="UTC", cron="55 23 * * *")
    last_run = "date_trunc('day', now() - interval '23 h 55 min') + interval '23 h 55 min'"
    # due for three days
    await owner.execute(f"update export_schedules set next_run_at = {last_run} - interval '3 days'")
    assert await looked(resources) == 1
    expected = await owner.fetchval(f"select date_trunc('day', {last_run})")
    assert (await spec_of_job(owner))["filter"] == {"from": f"{expected:%Y-%m-%dT%H:%M:%SZ}"}
    assert (await shown(viewer, schedule["id"]))["last_error"] is None


async def test_schedule_that_an_earlier_version_saved_stays_as_it_is(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, resources: ExportContext
) -> None:
    """Its spec has no `for` and no `timezone`, and that version refuses a spec that has members it does not know."""
    schedule = await made(viewer)
    stored = json.loads(await owner.fetchval("select spec from export_schedules"))
    assert not {"for", "timezone"} & stored.keys()
    await due(owner, schedule["id"])
    assert await looked(resources) == 1
    assert await spec_of_job(owner) == {}
