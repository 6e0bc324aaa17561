"""Jobs as operators see them over HTTP, and many of them tried again or cancelled at once."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.engine import Database
from erp_service.queue.jobs import defer
from tests.auth.keys import client_from, make_key
from tests.imports.jobs import ITEMS, submitted
from tests.support.clients import SignIn, UserClient

JOBS = "/api/v1/operations/jobs"
EXPORTS = "/api/v1/exports/jobs"


async def deferred(database: Database, task: str = "nothing", queue: str = "work", lock: str | None = None) -> int:
    async with database.write() as db:
        return await defer(db, task, queue=queue, arguments={}, queueing_lock=lock)


async def fail(owner: asyncpg.Connection, job_id: int, hours_ago: int = 0) -> None:
    await owner.execute("update procrastinate_jobs set status = 'doing' where id = $1", job_id)
    await owner.execute("select procrastinate_finish_job_v1($1, 'failed', false)", job_id)
    await owner.execute(
        "update procrastinate_events set at = now() - $2 * interval '1 h' where job_id = $1 and type = 'failed'",
        job_id,
        hours_ago,
    )


async def failed_export(client: httpx.AsyncClient, owner: asyncpg.Connection, dataset: str = "items") -> str:
    export_id = str((await client.post(EXPORTS, json={"dataset": dataset, "force_new": True})).json()["id"])
    await owner.execute(
        "with export as (update export_jobs set status = 'failed', finished_at = now(), error ="
        """ '{"type": "/problems/export-store-full", "title": "Full", "detail": "The store is full."}'"""
        " where id = $1 returning queue_job_id)"
        " delete from procrastinate_jobs where id = (select queue_job_id from export)",
        UUID(export_id),
    )
    return export_id


async def listed(client: httpx.AsyncClient, path: str = "", **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(JOBS + path, params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def ids(client: httpx.AsyncClient, path: str = "/failed", **query: Any) -> list[Any]:
    return [job.get("id", job.get("job")) for job in await listed(client, path, **query)]


async def test_jobs_that_run_or_wait_are_listed_with_what_they_make_and_whose_it_is(
    admin: UserClient, viewer: UserClient, owner: asyncpg.Connection, database: Database
) -> None:
    export_id = (await viewer.post(EXPORTS, json={"dataset": "items"})).json()["id"]
    plain = await deferred(database)
    later = await deferred(database)
    await owner.execute("update procrastinate_jobs set scheduled_at = now() + interval '1 h' where id = $1", later)
    await owner.execute("update procrastinate_jobs set status = 'doing' where id = $1", plain)
    export, runs, scheduled = await listed(admin)
    email = await owner.fetchval("select email from users where id = $1", viewer.user_id)
    assert (export["makes"], export["makes_id"], export["dataset"], export["owner"]) == (
        "export",
        export_id,
        "items",
        email,
    )
    assert (export["status"], export["attempt"], export["stalled"]) == ("waiting", 1, None)
    assert (runs["id"], runs["status"], runs["stalled"], runs["makes"], runs["owner"]) == (
        plain,
        "running",
        "gone",
        None,
        None,
    )
    assert (scheduled["id"], scheduled["status"]) == (later, "scheduled")
    assert datetime.fromisoformat(scheduled["since"]) > datetime.fromisoformat(export["since"])
    assert await ids(admin, "", status="running") == [plain]
    assert await ids(admin, "", queue="work") == [plain, later]
    assert await ids(admin, "", task=export["task"]) == [export["id"]]
    first = (await admin.get(JOBS, params={"limit": 2})).json()
    assert [job["id"] for job in first["items"]] == [export["id"], plain]
    assert await ids(admin, "", limit=2, cursor=first["next_cursor"]) == [later]


async def test_failed_jobs_are_filtered_and_come_page_by_page(
    admin: UserClient, viewer: UserClient, owner: asyncpg.Connection, database: Database
) -> None:
    old, one, two = [await deferred(database, task) for task in ("count", "clean", "Count")]
    for job_id, hours in ((old, 50), (one, 2), (two, 1)):
        await fail(owner, job_id, hours)
    await owner.execute("insert into queue_deaths (job_id, deaths, last_reason) values ($1, 5, 'gone')", one)
    export = await failed_export(viewer, owner)
    everything = [export, str(two), str(one), str(old)]
    assert await ids(admin) == everything
    found = {job["job"]: job for job in await listed(admin, "/failed")}
    assert (found[export]["number"], found[export]["makes"], found[export]["dataset"]) == (None, "export", "items")
    assert (found[export]["problem"], found[export]["reason"]) == ("/problems/export-store-full", "The store is full.")
    assert (found[str(one)]["deaths"], found[str(one)]["queue"], found[str(one)]["problem"]) == (5, "work", None)
    assert await ids(admin, queue="work") == everything[1:]
    assert await ids(admin, task="count") == [str(old)]
    assert await ids(admin, q="COUNT") == [str(two), str(old)]
    assert await ids(admin, q="store is") == [export]
    assert await ids(admin, q="%") == []
    assert await ids(admin, **{"from": found[str(one)]["at"], "to": found[str(two)]["at"]}) == [str(one)]
    seen, cursor = [], None
    for _ in range(4):
        page = (await admin.get(f"{JOBS}/failed", params={"limit": 1, **({"cursor": cursor} if cursor else {})})).json()
        seen += [job["job"] for job in page["items"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (everything, None)


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("/failed", {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, None),
        ("/failed", {"from": "yesterday"}, "from"),
        ("/failed", {"cursor": "nonsense"}, "cursor"),
        ("", {"status": "failed"}, "status"),
        ("", {"limit": "501"}, "limit"),
    ],
)
async def test_wrong_filters_are_named(
    admin: httpx.AsyncClient, path: str, query: dict[str, str], parameter: str | None
) -> None:
    answer = await admin.get(JOBS + path, params=query)
    assert answer.status_code == 422
    if parameter:
        assert [fault["parameter"] for fault in answer.json()["errors"]] == [parameter]


async def test_many_are_tried_again_each_with_an_outcome_of_its_own(
    admin: UserClient, viewer: UserClient, owner: asyncpg.Connection, database: Database
) -> None:
    failed, waits = await deferred(database), await deferred(database)
    await fail(owner, failed)
    export, unknown = await failed_export(viewer, owner), str(uuid4())
    wanted = [unknown, str(failed), export, str(waits), str(failed)]

    answer = await admin.post(f"{JOBS}/retry", json={"jobs": wanted})

    assert answer.status_code == 200, answer.text
    outcomes = {item["job"]: item for item in answer.json()["items"]}
    assert list(outcomes) == wanted[:-1], "in the order of the request, each once"
    assert answer.json()["done"] == 2
    assert (outcomes[str(failed)]["done"], outcomes[export]["done"]) == (True, True)
    assert outcomes[unknown]["problem"]["type"] == "/problems/not-found"
    assert outcomes[str(waits)]["problem"]["type"] == "/problems/job-not-failed"
    assert outcomes[str(waits)]["said"] is None
    assert await owner.fetchval("select status from procrastinate_jobs where id = $1", failed) == "todo"
    new = await owner.fetchrow("select * from export_jobs where id = $1", UUID(outcomes[export]["export_id"]))
    assert (new["user_id"], str(new["retry_of"]), new["status"]) == (viewer.user_id, export, "queued")
    assert await ids(admin) == [], "what was tried again is no longer listed"
    entries = await owner.fetch(
        "select action, entity_id, user_id, on_behalf_of, actor from audit_log where request_id = $1 order by action",
        answer.headers["x-request-id"],
    )
    assert [tuple(entry) for entry in entries] == [
        ("export.retried", export, admin.user_id, viewer.user_id, None),
        ("export.submitted", outcomes[export]["export_id"], admin.user_id, viewer.user_id, None),
        ("job.retried", str(failed), admin.user_id, None, None),
    ]


async def test_many_are_cancelled_exports_imports_and_jobs(
    admin: UserClient, viewer: UserClient, owner: asyncpg.Connection, database: Database
) -> None:
    plain, ended = await deferred(database), await deferred(database)
    await fail(owner, ended)
    export = (await viewer.post(EXPORTS, json={"dataset": "items"})).json()["id"]
    number = await owner.fetchval("select queue_job_id from export_jobs")
    upload = await submitted(admin, "items", ITEMS)
    answer = await admin.post(f"{JOBS}/cancel", json={"jobs": [str(plain), str(number), upload["id"], str(ended)]})
    *done, refused = answer.json()["items"]
    assert [item["done"] for item in done] == [True] * 3, answer.text
    assert refused["problem"]["type"] == "/problems/job-ended"
    assert await owner.fetchval("select status from export_jobs where id = $1", UUID(export)) == "canceled"
    assert await owner.fetchval("select status from import_jobs") == "canceled"
    assert await ids(admin, "") == []
    rows = await owner.fetch(
        "select action, entity_id, user_id from audit_log where request_id = $1 order by action",
        answer.headers["x-request-id"],
    )
    assert [tuple(row) for row in rows] == [
        ("export.canceled", export, admin.user_id),
        ("import.canceled", upload["id"], admin.user_id),
        ("job.canceled", str(plain), admin.user_id),
    ]


async def test_import_is_not_tried_again_and_neither_is_a_job_whose_twin_waits(
    admin: UserClient, owner: asyncpg.Connection, database: Database
) -> None:
    upload = await submitted(admin, "items", ITEMS)
    number = await owner.fetchval("select queue_job_id from import_jobs")
    await fail(owner, number)
    first = await deferred(database, lock="one")
    await fail(owner, first)
    await deferred(database, lock="one")
    other = await deferred(database)
    await fail(owner, other)
    jobs = [str(number), upload["id"], str(first), str(other)]
    answer = (await admin.post(f"{JOBS}/retry", json={"jobs": jobs})).json()
    problems = [item["problem"] and item["problem"]["type"] for item in answer["items"]]
    assert problems == ["/problems/import-not-retried"] * 2 + ["/problems/same-job-waits", None]
    assert await owner.fetchval("select status from procrastinate_jobs where id = $1", other) == "todo"


async def test_lost_answer_is_given_again_and_nothing_is_done_twice(
    admin: UserClient, viewer: UserClient, owner: asyncpg.Connection
) -> None:
    export = await failed_export(viewer, owner)
    body, key = {"jobs": [export]}, {"Idempotency-Key": "once"}
    first, again = [await admin.post(f"{JOBS}/retry", json=body, headers=key) for _ in range(2)]
    assert (first.status_code, first.content) == (200, again.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert await owner.fetchval("select count(*) from export_jobs where retry_of is not null") == 1
    other = await admin.post(f"{JOBS}/retry", json={"jobs": ["1"]}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")


@pytest.mark.parametrize(
    "jobs", [[], ["0"], ["1 "], ["one"], ["-1"], [1], [str(n) for n in range(1, 502)], ["9" * 16]], ids=str
)
async def test_bodies_that_name_no_jobs_are_refused(admin: httpx.AsyncClient, jobs: list[Any]) -> None:
    assert (await admin.post(f"{JOBS}/cancel", json={"jobs": jobs})).status_code == 422


async def test_five_hundred_at_once(admin: UserClient, owner: asyncpg.Connection, database: Database) -> None:
    await deferred(database)
    await owner.execute(
        "insert into procrastinate_jobs (queue_name, task_name, status) select 'work', 'nothing', 'failed'"
        " from generate_series(1, 500)"
    )
    jobs = await ids(admin, limit=500)
    assert len(jobs) == 500
    answer = (await admin.post(f"{JOBS}/retry", json={"jobs": jobs})).json()
    assert answer["done"] == 500
    assert await owner.fetchval("select count(*) from audit_log where action = 'job.retried'") == 500


async def test_who_may_act_and_the_scope_that_a_key_needs(
    sign_in: SignIn, app: Litestar, viewer: UserClient, owner: asyncpg.Connection
) -> None:
    export = await failed_export(viewer, owner)
    maker = await sign_in(Role.ADMIN)
    reads = await make_key(maker, Scope.OPERATIONS_READ, role=Role.ADMIN)
    acts = await make_key(maker, Scope.OPERATIONS_WRITE, role=Role.ADMIN)
    body = {"jobs": [export]}
    assert (await (await sign_in(Role.STAFF)).post(f"{JOBS}/retry", json=body)).status_code == 403
    async with client_from(app, "192.0.2.1", reads.key) as reader, client_from(app, "192.0.2.1", acts.key) as actor:
        assert await ids(reader) == [export]
        refused = await reader.post(f"{JOBS}/retry", json=body)
        assert (refused.status_code, refused.json()["scope"]) == (403, "operations:write")
        assert (await actor.get(JOBS)).status_code == 403
        done = (await actor.post(f"{JOBS}/retry", json=body)).json()
    assert done["done"] == 1, done
    rows = await owner.fetch(
        "select distinct user_id, on_behalf_of, api_key_id from audit_log where action = any($1)",
        ["export.retried", "export.submitted"],
    )
    assert (maker.user_id, viewer.user_id, acts.id) in [tuple(row) for row in rows]


async def test_owner_who_has_left_gets_no_new_export(
    admin: UserClient, viewer: UserClient, owner: asyncpg.Connection
) -> None:
    export = await failed_export(viewer, owner)
    await owner.execute("update users set is_active = false where id = $1", viewer.user_id)
    (item,) = (await admin.post(f"{JOBS}/retry", json={"jobs": [export]})).json()["items"]
    assert (item["done"], item["problem"]["type"]) == (False, "/problems/forbidden")
    assert "no longer active" in item["problem"]["detail"]
