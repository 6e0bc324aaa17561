"""Exports over HTTP, from the submission to the downloaded file."""

import csv
import hashlib
import io

import asyncpg
import httpx

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.planning.selection import psql_text
from erp_service.exports.storage.base import Store
from erp_service.settings import Settings
from tests.exports.data import fill
from tests.exports.jobs import JOBS, done, reaches, submitted
from tests.support.clients import UserClient
from tests.support.company import COMPANY
from tests.support.psql import Psql
from tests.support.workers import Work


async def test_every_dataset_is_byte_for_byte_what_psql_copy_writes(
    admin: UserClient, owner: asyncpg.Connection, work: Work, psql: Psql
) -> None:
    await fill(owner, admin.user_id)
    async with work():
        for name in sorted(DATASETS):
            text = psql_text(DATASETS[name])
            before = psql(text)
            job = await done(admin, name)
            assert job["status"] == "succeeded", job
            file = await admin.get(f"{JOBS}/{job['id']}/download")
            # the audit log, and so this export, contains its own submission
            own = psql(text)[len(before) :] if name == "audit_log" else b""
            added = file.content[len(before) :]
            assert file.content.startswith(before), name
            assert added == own[: len(added)], name
            assert added.count(b"export.submitted") == (name == "audit_log")
            assert job["result"]["bytes"] == len(file.content) == int(file.headers["Content-Length"])
            assert job["result"]["sha256"] == hashlib.sha256(file.content).hexdigest()
            rows = len(list(csv.reader(io.StringIO(file.content.decode(), newline="")))) - 1
            assert job["result"]["rows"] == rows > 0


async def test_submission_answers_with_the_job_and_where_to_follow_it(viewer: UserClient) -> None:
    answer = await viewer.post(JOBS, json={"dataset": "items"})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"{JOBS}/{job['id']}" == job["links"]["self"]
    assert "Retry-After" in answer.headers
    assert set(job) == {
        "id", "dataset", "format", "compression", "status", "attempt", "created_at", "started_at", "finished_at",
        "expires_at", "snapshot_at", "progress", "result", "error", "created_by", "retry_of", "deduplicated", "links",
    }  # fmt: skip
    assert (job["status"], job["attempt"], job["created_by"]) == ("queued", 0, viewer.user_id)
    assert set(job["progress"]) == {
        "rows_done", "rows_total", "rows_total_is_estimate", "bytes", "percent", "eta_seconds",
    }  # fmt: skip


async def test_catalogue_says_what_there_is_and_what_is_allowed(viewer: httpx.AsyncClient) -> None:
    found = {one["name"]: one for one in (await viewer.get("/api/v1/exports/datasets")).json()["items"]}
    assert set(found) == {*DATASETS, "all"}
    assert [name for name, one in found.items() if not one["allowed"]] == [
        "audit_log",
        "users",
        "access_review",
        "reservations",
        "counts",
    ]
    assert found["users"]["role"] == "ADMIN"
    assert {"name": "quantity", "type": "decimal", "description": "signed: below zero if stock went out"} in found[
        "stock_movements"
    ]["columns"]
    assert found["items"]["formats"] == ["csv", "jsonl", "xlsx", "parquet"]
    assert "-sku" in found["items"]["sorts"]
    filters = {one["name"]: one for one in found["items"]["filters"]}
    assert filters["status"]["choices"] == ["ACTIVE", "INACTIVE", "DISCONTINUED"]
    assert filters["sku"]["choices"] is None


async def test_dataset_of_a_higher_role_is_403(staff: httpx.AsyncClient) -> None:
    for dataset in ("users", "audit_log"):
        answer = await staff.post(JOBS, json={"dataset": dataset})
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


async def test_password_hashes_are_in_no_export(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    await owner.execute("update users set password_hash = 'a-hash-that-must-not-leave'")
    async with work():
        for dataset in ("users", "audit_log"):
            job = await done(admin, dataset)
            assert b"must-not-leave" not in (await admin.get(f"{JOBS}/{job['id']}/download")).content


async def test_formulas_are_not_altered_in_a_csv_for_machines(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    """Guarding against formulas would change the data; there is an option for spreadsheets."""
    await owner.execute("insert into items (sku, name, unit) values ('F', '=1+1', '@x')")
    async with work():
        job = await done(viewer, columns=["sku", "name", "unit"])
    assert (await viewer.get(f"{JOBS}/{job['id']}/download")).content == b"sku,name,unit\nF,=1+1,@x\n"


async def test_null_and_empty_are_told_apart_and_numbers_are_exact(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    await owner.execute(
        "insert into items (sku, name, unit, description, reorder_point) values ('007', '', 'kg', null, 0.000001),"
        " ('1e5', 'x', '', 'NULL', 999999999999.999999), ('-0', '', '', '', 12.500000)"
    )
    async with work():
        job = await done(viewer, columns=["sku", "name", "unit", "description", "reorder_point"])
    assert (await viewer.get(f"{JOBS}/{job['id']}/download")).content.decode().splitlines()[1:] == [
        '007,"",kg,,0.000001',
        '1e5,x,"",NULL,999999999999.999999',
        '-0,"","","",12.5',
    ]


async def test_empty_dataset_is_a_file_with_a_header(viewer: httpx.AsyncClient, work: Work) -> None:
    async with work():
        job = await done(viewer, "stock_levels", columns=["sku", "on_hand"])
    assert job["result"]["rows"] == 0
    assert (await viewer.get(f"{JOBS}/{job['id']}/download")).content == b"sku,on_hand\n"


async def test_job_of_somebody_else_is_404_for_everything(
    viewer: httpx.AsyncClient, staff: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    mine = f"{JOBS}/{await submitted(viewer)}"
    answers = [
        await staff.get(mine),
        await staff.post(f"{mine}/cancel"),
        await staff.post(f"{mine}/retry"),
        await staff.delete(mine),
        await staff.get(f"{mine}/download"),
        await staff.head(f"{mine}/download"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 6
    assert (await viewer.get(mine)).json()["status"] == "queued"
    assert (await admin.get(mine)).status_code == 200
    assert (await admin.post(f"{mine}/cancel")).json()["status"] == "canceled"


async def test_list_is_ones_own_newest_first_and_everybodys_for_an_admin(
    viewer: httpx.AsyncClient, staff: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    mine = [await submitted(viewer, dataset) for dataset in ("items", "locations", "items")]
    other = await submitted(staff)

    async def ids(client: httpx.AsyncClient, query: str = "") -> list[str]:
        return [job["id"] for job in (await client.get(f"{JOBS}{query}")).json()["items"]]

    assert await ids(viewer) == mine[::-1]
    assert await ids(viewer, "?dataset=locations") == [mine[1]]
    assert await ids(viewer, "?status=running") == []
    assert await ids(admin) == []
    assert await ids(admin, "?mine=false") == [other, *mine[::-1]]
    assert (await viewer.get(f"{JOBS}?mine=false")).status_code == 403
    page = (await viewer.get(f"{JOBS}?limit=2")).json()
    assert [job["id"] for job in page["items"]] == mine[:0:-1]
    assert await ids(viewer, f"?limit=2&cursor={page['next_cursor']}") == mine[:1]


async def test_job_has_an_etag_that_changes_with_it_and_retry_after_until_it_has_ended(
    viewer: httpx.AsyncClient,
) -> None:
    mine = f"{JOBS}/{await submitted(viewer)}"
    first = await viewer.get(mine)
    assert "Retry-After" in first.headers
    assert (await viewer.get(mine, headers={"If-None-Match": first.headers["ETag"]})).status_code == 304
    ended = await viewer.post(f"{mine}/cancel")
    assert ended.headers["ETag"] != first.headers["ETag"]
    assert "Retry-After" not in (await viewer.get(mine)).headers


async def test_cancel_while_queued_takes_effect_at_once_and_again_changes_nothing(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    ids = [await submitted(viewer) for _ in range(3)]  # the third one waits for admission
    for export_id in (ids[0], ids[2]):
        answers = [await viewer.post(f"{JOBS}/{export_id}/cancel") for _ in range(2)]
        assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "canceled")] * 2
        assert answers[0].json()["finished_at"] is not None
    async with work():
        await reaches(viewer, ids[1], "succeeded")
    assert await owner.fetchval("select count(*) from export_jobs where attempt > 0") == 1
    assert await owner.fetchval("select count(*) from audit_log where action = 'export.canceled'") == 2


async def test_cancel_of_a_run_that_waits_to_begin_again_takes_effect_at_once(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    """After a rescue or an outage the row still says running, although no worker runs it."""
    export_id = await submitted(viewer)
    await owner.execute("update export_jobs set status = 'running', attempt = 1")
    answer = await viewer.post(f"{JOBS}/{export_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert await owner.fetchval("select status from procrastinate_jobs") == "cancelled"


async def test_what_has_ended_cannot_be_canceled(viewer: httpx.AsyncClient, work: Work) -> None:
    async with work():
        job = await done(viewer)
    answer = await viewer.post(f"{JOBS}/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/export-final")


async def test_retry_makes_a_new_job_of_the_same_request(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    old = await submitted(viewer, columns=["sku"], filter={"q": "a"}, retention_hours=5)
    assert (await viewer.post(f"{JOBS}/{old}/retry")).json()["type"] == "/problems/export-unfinished"
    await viewer.post(f"{JOBS}/{old}/cancel")
    answer = await viewer.post(f"{JOBS}/{old}/retry")
    assert answer.status_code == 202
    assert answer.json()["retry_of"] == old != answer.json()["id"]
    async with work():
        job = await reaches(viewer, answer.json()["id"], "succeeded")
    assert (await viewer.get(f"{JOBS}/{job['id']}/download")).content == b"sku\n"
    answer = await viewer.post(f"{JOBS}/{job['id']}/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/export-succeeded")


async def test_retry_keeps_no_file_longer_than_the_operator_allows_by_now(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, settings: Settings
) -> None:
    old = await submitted(viewer)
    await viewer.post(f"{JOBS}/{old}/cancel")
    # as it was submitted under another setting
    await owner.execute("update export_jobs set retention_hours = 8760")
    new = (await viewer.post(f"{JOBS}/{old}/retry")).json()["id"]
    kept = await owner.fetchval("select retention_hours from export_jobs where id = $1::text::uuid", new)
    assert kept == COMPANY.export_retention_hours < 8760


async def test_delete_removes_the_file_now_and_leaves_a_record(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, store: Store
) -> None:
    async with work():
        job = await done(viewer)
    mine = f"{JOBS}/{job['id']}"
    assert (await viewer.delete(mine, headers={"If-Match": '"999"'})).status_code == 412
    answer = await viewer.delete(mine)
    assert (answer.status_code, answer.content) == (204, b"")
    assert [kept async for kept in store.list_files()] == []
    assert (await viewer.get(mine)).status_code == 404
    assert (await viewer.delete(mine)).status_code == 404
    assert (await viewer.get(f"{mine}/download")).status_code == 410
    record = (await viewer.get(f"{mine}?include_deleted=true")).json()
    assert (record["status"], record["result"]) == ("expired", job["result"])
    assert (await viewer.get(JOBS)).json()["items"] == []
    assert await owner.fetchval("select count(*) from audit_log where action = 'export.deleted'") == 1


async def test_running_export_is_not_deleted(viewer: httpx.AsyncClient) -> None:
    answer = await viewer.delete(f"{JOBS}/{await submitted(viewer)}")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/export-unfinished")


async def test_same_request_again_gives_the_job_that_waits_unless_forced(
    viewer: httpx.AsyncClient, staff: httpx.AsyncClient
) -> None:
    body = {"dataset": "items", "filter": {"q": "a"}}
    first = (await viewer.post(JOBS, json=body)).json()
    again = (await viewer.post(JOBS, json=body)).json()
    assert (first["deduplicated"], again["deduplicated"], again["id"]) == (False, True, first["id"])
    others = [
        await viewer.post(JOBS, json={**body, "force_new": True}),
        await viewer.post(JOBS, json={**body, "filter": {"q": "b"}}),
        await staff.post(JOBS, json=body),
    ]
    assert {answer.json()["deduplicated"] for answer in others} == {False}
    assert len({answer.json()["id"] for answer in others} | {first["id"]}) == 4
    await viewer.post(f"{JOBS}/{first['id']}/cancel")
    await viewer.post(f"{JOBS}/{others[0].json()['id']}/cancel")
    assert not (await viewer.post(JOBS, json=body)).json()["deduplicated"]


async def test_idempotency_key_submits_once(viewer: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    body = {"dataset": "items", "force_new": True}
    first, again = [await viewer.post(JOBS, json=body, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.content, again.headers["Location"]) == (first.content, first.headers["Location"])
    assert await owner.fetchval("select count(*) from export_jobs") == 1


async def test_unknown_id_is_404(viewer: httpx.AsyncClient) -> None:
    for unknown in ("01890000-0000-7000-8000-000000000000", "17"):
        for method, path in (
            ("GET", ""),
            ("POST", "/cancel"),
            ("POST", "/retry"),
            ("GET", "/download"),
            ("DELETE", ""),
        ):
            assert (await viewer.request(method, f"{JOBS}/{unknown}{path}")).status_code == 404


async def test_what_was_done_with_an_export_is_on_record(
    viewer: UserClient, owner: asyncpg.Connection, work: Work
) -> None:
    async with work():
        job = await done(viewer)
    await viewer.get(f"{JOBS}/{job['id']}/download")
    await viewer.delete(f"{JOBS}/{job['id']}")
    rows = await owner.fetch(
        "select action, user_id from audit_log where entity = 'export' and entity_id = $1 order by id", job["id"]
    )
    user = viewer.user_id
    assert [tuple(row) for row in rows] == [
        ("export.submitted", user),
        ("export.succeeded", None),
        ("export.downloaded", user),
        ("export.deleted", user),
    ]
