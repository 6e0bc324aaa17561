"""Schedules, as clients make, change, list and run them."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.exports.schedules.service import MOST_PER_USER
from tests.exports.schedules.examples import DAILY, SCHEDULES, made
from tests.support.clients import SignIn, UserClient


async def actions(owner: asyncpg.Connection, schedule_id: str) -> list[str]:
    rows = await owner.fetch("select action from audit_log where entity_id = $1 order by id", schedule_id)
    return [row["action"] for row in rows]


async def test_schedule_is_made_shown_replaced_and_deleted(viewer: UserClient, owner: asyncpg.Connection) -> None:
    answer = await viewer.post(SCHEDULES, json=DAILY)
    assert answer.status_code == 201
    schedule, where = answer.json(), answer.headers["Location"]
    assert where == f"{SCHEDULES}/{schedule['id']}"
    assert schedule["owner"] == viewer.user_id
    assert schedule["spec"]["dataset"] == "items"
    assert (schedule["last_job"], schedule["last_error"], schedule["last_run_at"]) == (None, None, None)
    expected = "select (date_trunc('day', (now() at time zone $1) + interval '18 h') + interval '6 h') at time zone $1"
    assert schedule["next_run_at"] == (await owner.fetchval(expected, "Europe/Berlin")).strftime("%Y-%m-%dT%H:%M:%SZ")

    again = await viewer.get(where)
    assert again.json() == schedule
    assert again.headers["ETag"] == answer.headers["ETag"]
    assert (await viewer.get(where, headers={"If-None-Match": again.headers["ETag"]})).status_code == 304

    paused = await viewer.put(where, json={**DAILY, "is_active": False}, headers={"If-Match": again.headers["ETag"]})
    assert paused.status_code == 200, paused.text
    assert paused.json()["next_run_at"] is None
    assert paused.headers["ETag"] != again.headers["ETag"]
    stale = await viewer.put(where, json=DAILY, headers={"If-Match": again.headers["ETag"]})
    assert stale.status_code == 412
    assert (await viewer.delete(where, headers={"If-Match": again.headers["ETag"]})).status_code == 412
    assert (await viewer.delete(where, headers={"If-Match": paused.headers["ETag"]})).status_code == 204
    assert (await viewer.get(where)).status_code == 404
    assert await actions(owner, schedule["id"]) == ["schedule.created", "schedule.updated", "schedule.deleted"]


async def test_replacing_it_by_itself_leaves_no_trace(viewer: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    schedule = await made(viewer)
    where = f"{SCHEDULES}/{schedule['id']}"
    tag = (await viewer.get(where)).headers["ETag"]
    answer = await viewer.put(where, json=DAILY)
    assert (answer.status_code, answer.headers["ETag"]) == (200, tag)
    assert await actions(owner, schedule["id"]) == ["schedule.created"]


async def test_another_spec_keeps_a_run_that_is_due_and_another_time_does_not(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    schedule = await made(viewer)
    where = f"{SCHEDULES}/{schedule['id']}"
    await owner.execute("update export_schedules set next_run_at = '2020-01-01Z', last_error = '{}'")
    changed = (await viewer.put(where, json={**DAILY, "spec": {"dataset": "locations"}})).json()
    assert changed["next_run_at"] == "2020-01-01T00:00:00Z"
    assert changed["last_error"] is None
    moved = (await viewer.put(where, json={**DAILY, "cron": "0 7 * * *"})).json()
    assert moved["next_run_at"] > schedule["created_at"]


async def test_same_key_makes_one_schedule(viewer: httpx.AsyncClient) -> None:
    answers = [await viewer.post(SCHEDULES, json=DAILY, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len((await viewer.get(SCHEDULES)).json()["items"]) == 1


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"cron": "*/4 * * * *"}, ["/cron"]),
        ({"cron": "0 6 31 feb *"}, ["/cron"]),
        ({"cron": "whenever I like it"}, ["/cron"]),
        ({"cron": "@reboot"}, ["/cron"]),
        ({"timezone": "Europe/Atlantis"}, ["/timezone"]),
        ({"timezone": "right/Europe/Berlin"}, ["/timezone"]),
        ({"timezone": "localtime"}, ["/timezone"]),
        ({"cron": "61 * * * *", "timezone": "../passwd"}, ["/cron", "/timezone"]),
        ({"spec": {"dataset": "items", "columns": ["sku", "price"]}}, ["/spec/columns/1"]),
        ({"spec": {"dataset": "items", "filter": {"colour": "red"}}}, ["/spec/filter/colour"]),
        ({"spec": {"dataset": "items", "retention_hours": 8760}}, ["/spec/retention_hours"]),
        ({"spec": {"dataset": "nothing"}}, ["/spec/dataset"]),
        ({"next_run_at": "2026-01-01T00:00:00Z"}, ["/next_run_at"]),
    ],
)
async def test_what_cannot_run_is_refused_when_it_is_saved(
    viewer: httpx.AsyncClient, body: dict[str, Any], pointers: list[str]
) -> None:
    answer = await viewer.post(SCHEDULES, json={**DAILY, **body})
    assert answer.status_code == 422, answer.text
    assert sorted(fault["pointer"] for fault in answer.json()["errors"]) == pointers


async def test_dataset_takes_its_role_to_schedule(viewer: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    audit = {**DAILY, "spec": {"dataset": "audit_log"}}
    assert (await viewer.post(SCHEDULES, json=audit)).status_code == 403
    assert (await admin.post(SCHEDULES, json=audit)).status_code == 201
    theirs = await made(viewer)
    # it runs as its owner, so it is the owner's role that counts
    assert (await admin.put(f"{SCHEDULES}/{theirs['id']}", json=audit)).status_code == 403


async def test_others_see_nothing_and_an_admin_all(sign_in: SignIn) -> None:
    one, two, admin = await sign_in(Role.STAFF), await sign_in(Role.VIEWER), await sign_in(Role.ADMIN)
    schedule = await made(one)
    where = f"{SCHEDULES}/{schedule['id']}"
    assert (await two.get(SCHEDULES)).json()["items"] == []
    assert (await two.get(SCHEDULES, params={"mine": False})).status_code == 403
    assert (await two.get(where)).status_code == 404
    assert (await two.put(where, json=DAILY)).status_code == 404
    assert (await two.post(f"{where}/run")).status_code == 404
    assert (await two.delete(where)).status_code == 404
    assert (await admin.get(SCHEDULES)).json()["items"] == []
    assert (await admin.get(SCHEDULES, params={"mine": False})).json()["items"] == [schedule]
    assert (await admin.get(where)).json() == schedule
    assert (await admin.delete(where)).status_code == 204


async def test_list_goes_through_every_schedule_once_newest_first(viewer: httpx.AsyncClient) -> None:
    ids = [(await made(viewer, is_active=n % 2 == 0))["id"] for n in range(7)]
    found, address = [], f"{SCHEDULES}?limit=3"
    while address:
        answer = await viewer.get(address)
        found += [item["id"] for item in answer.json()["items"]]
        address = answer.links["next"]["url"] if "next" in answer.links else ""
    assert found == ids[::-1]
    active = (await viewer.get(SCHEDULES, params={"is_active": True})).json()["items"]
    assert [item["id"] for item in active] == ids[::-2]


async def test_many_at_once_never_pass_the_number_that_one_user_may_have(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    await made(viewer)
    await owner.execute(
        "insert into export_schedules (id, user_id, cron, timezone, spec, next_run_at)"
        " select gen_random_uuid(), user_id, cron, timezone, spec, next_run_at"
        " from export_schedules, generate_series(1, $1)",
        MOST_PER_USER - 3,
    )
    answers = await asyncio.gather(*(viewer.post(SCHEDULES, json=DAILY) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["type"] == "/problems/too-many-schedules"


async def test_run_now_makes_a_job_of_the_owner_and_moves_nothing(
    viewer: httpx.AsyncClient, admin: UserClient, owner: asyncpg.Connection
) -> None:
    schedule = await made(viewer, is_active=False)
    where = f"{SCHEDULES}/{schedule['id']}"
    before = (await viewer.get(where)).headers["ETag"]
    answer = await admin.post(f"{where}/run")
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["Location"] == f"/api/v1/exports/jobs/{job['id']}"
    assert job["created_by"] == schedule["owner"]
    shown = await viewer.get(where)
    assert shown.json()["last_job"] == {"id": job["id"], "status": "queued"}
    assert shown.json()["next_run_at"] is None
    assert shown.headers["ETag"] != before
    await viewer.post(f"{job['links']['self']}/cancel")
    after = await viewer.get(where)
    assert after.json()["last_job"]["status"] == "canceled"
    assert after.headers["ETag"] != shown.headers["ETag"]
    by = await owner.fetchval("select user_id from audit_log where action = 'schedule.run'")
    assert by == admin.user_id


async def test_run_now_says_what_refuses_it(viewer: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    where = f"{SCHEDULES}/{(await made(viewer))['id']}"
    await owner.execute("update export_schedules set spec = jsonb_set(spec, '{dataset}', '\"users\"')")
    assert (await viewer.post(f"{where}/run")).status_code == 403
    await owner.execute('update export_schedules set spec = \'{"dataset": "gone"}\'')
    answer = await viewer.post(f"{where}/run")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/spec"
    # and it can still be looked at
    assert (await viewer.get(where)).json()["spec"] == {"dataset": "gone"}


async def test_nickname_is_kept_as_the_fields_it_stands_for(viewer: httpx.AsyncClient) -> None:
    """It was refused for its length, in words that helped nobody."""
    schedule = await made(viewer, cron="@daily")
    assert (schedule["cron"], schedule["day_rule"]) == ("0 0 * * *", None)
    again = await viewer.put(f"{SCHEDULES}/{schedule['id']}", json={**DAILY, "cron": "@daily"})
    assert again.json() == schedule
    refused = await viewer.put(f"{SCHEDULES}/{schedule['id']}", json={**DAILY, "cron": "@reboot"})
    assert "is not one of @yearly" in refused.json()["errors"][0]["detail"]


async def test_answer_says_which_rule_holds_for_day_of_month_and_day_of_week(viewer: httpx.AsyncClient) -> None:
    both, either = await made(viewer, cron="0 0 */2 * 1"), await made(viewer, cron="0 0 13 * fri")
    assert both["day_rule"] == {
        "match": "both",
        "description": "runs on days that match both: day of month */2 and day of week 1, as one begins with *",
    }
    assert either["day_rule"]["match"] == "either"
    listed = (await viewer.get(SCHEDULES)).json()["items"]
    assert [schedule["day_rule"] for schedule in listed] == [either["day_rule"], both["day_rule"]]
