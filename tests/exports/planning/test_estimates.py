"""Estimates, compared with the export itself; the request leaves nothing behind."""

from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.principals import system
from erp_service.company.settings import CompanySettings
from erp_service.db.engine import Database
from erp_service.exports.planning import estimates, planner
from erp_service.exports.planning.request import read_request
from erp_service.exports.schemas import ExportRequest
from tests.exports.data import fill, many_items
from tests.exports.jobs import JOBS, done, reaches
from tests.support.clients import UserClient
from tests.support.workers import Work

ESTIMATES = "/api/v1/exports/estimates"


async def estimate(client: httpx.AsyncClient, dataset: str = "items", **more: Any) -> dict[str, Any]:
    answer = await client.post(ESTIMATES, json={"dataset": dataset, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def test_rows_are_counted_where_that_is_cheap(viewer: UserClient, owner: asyncpg.Connection) -> None:
    await fill(owner, viewer.user_id, movements=300)
    found = await estimate(viewer, "stock_movements", filter={"transaction_type": "ADJUSTMENT", "item_id": 7})
    assert (found["valid"], found["rows"], found["rows_is_estimate"], found["size"]) == (True, 10, False, "small")
    assert found["datasets"] == ["stock_movements"]
    assert found["seconds"] >= 1
    whole = await estimate(viewer, "all")
    alone = [await estimate(viewer, name) for name in whole["datasets"]]
    deleted = 1
    assert whole["rows"] == sum(one["rows"] for one in alone) + deleted


async def test_rows_are_the_planners_estimate_where_counting_would_take_long(
    database: Database, owner: asyncpg.Connection
) -> None:
    await many_items(owner, 20_000)
    await owner.execute("analyze items")
    planned = read_request(system("test"), CompanySettings(), ExportRequest(dataset="items"))
    async with database.write() as db:
        plans = await planner.plans(db, planned.queries)
        assert plans is not None
        found = await estimates.estimate(db, planned, plans, most_counted=10_000)
    assert found.rows_is_estimate
    assert found.rows == pytest.approx(20_000, rel=0.1)
    assert found.size == "large"


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
async def test_bytes_are_near_the_truth_before_any_export_and_nearer_after_one(
    format_: str, viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    await many_items(owner, 20_000)
    await owner.execute("analyze items")
    before = await estimate(viewer, format=format_)
    assert (before["bytes_from"], before["seconds_from"]) == ("sample", "typical")
    async with work():
        job = await done(viewer, format=format_)
    after = await estimate(viewer, format=format_)
    assert (after["bytes_from"], after["seconds_from"]) == ("exports", "exports")
    assert before["bytes"] == pytest.approx(job["result"]["bytes"], rel=0.1)
    assert after["bytes"] == pytest.approx(job["result"]["bytes"], rel=0.01)
    # another format, and other columns, are another size
    other = await estimate(viewer, format="jsonl" if format_ == "csv" else "csv")
    narrow = await estimate(viewer, format=format_, columns=["sku"])
    assert (other["bytes_from"], narrow["bytes_from"]) == ("sample", "sample")
    assert narrow["bytes"] < before["bytes"] / 4


async def test_estimate_of_the_archive_learns_from_archives(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    await many_items(owner, 2_000)
    async with work():
        job = await done(viewer, "all")
    found = await estimate(viewer, "all")
    assert found["bytes_from"] == "exports"
    assert found["bytes"] == pytest.approx(job["result"]["bytes"], rel=0.01)


async def test_asking_leaves_nothing_behind(viewer: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    tables = ("export_jobs", "audit_log", "procrastinate_jobs", "idempotency")
    counts = "select " + ", ".join(f"(select count(*) from {table})" for table in tables)
    before = await owner.fetchrow(counts)
    for dataset in ("items", "all"):
        await estimate(viewer, dataset)
    assert await owner.fetchrow(counts) == before


async def test_asking_takes_no_place_among_the_exports_that_wait(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    while (await viewer.post(JOBS, json={"dataset": "items", "force_new": True})).status_code == 202:
        pass
    assert (await viewer.post(JOBS, json={"dataset": "items", "force_new": True})).status_code == 429
    before = await owner.fetchval("select count(*) from export_jobs")
    assert (await estimate(viewer))["valid"] is True
    assert await owner.fetchval("select count(*) from export_jobs") == before


@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [
        ({"dataset": "users"}, 403, []),
        ({"dataset": "items", "columns": ["colour"], "sort": "weight"}, 422, ["/columns/0", "/sort"]),
        ({"dataset": "items", "filter": {"sku": 1}, "filename": "../x"}, 422, ["/filename", "/filter/sku"]),
        ({"dataset": "items", "filename": "{x}\n", "retention_hours": 8000}, 422, ["/filename", "/retention_hours"]),
        ({"dataset": "items", "format": "xlsx", "compression": "gzip", "csv": {}}, 422, ["/compression", "/csv"]),
        ({"dataset": "items", "nonsense": 1}, 422, ["/nonsense"]),
    ],
)
async def test_what_submission_refuses_is_refused_here_in_the_same_words(
    body: dict[str, Any], status: int, pointers: list[str], viewer: httpx.AsyncClient
) -> None:
    answers = [await viewer.post(path, json=body) for path in (ESTIMATES, JOBS)]
    problems = [answer.json() for answer in answers]
    for problem in problems:
        del problem["request_id"]
    assert problems[0] == problems[1]
    assert [answer.status_code for answer in answers] == [status] * 2
    assert sorted({fault["pointer"] for fault in problems[0].get("errors", [])}) == pointers


# Each of the 2,000 items 600 times: more rows than a sheet holds, and none of them stored
REPEATED = """
alter table items rename to items_table;
create view items as select items_table.* from items_table, generate_series(1, 600);
grant select on items to public
"""


async def test_more_rows_than_a_sheet_holds_are_refused_here_too(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    await many_items(owner, 2_000)
    await owner.execute("analyze items")
    await owner.execute(REPEATED)
    for path in (ESTIMATES, JOBS):
        for dataset in ("items", "all"):
            answer = await viewer.post(path, json={"dataset": dataset, "format": "xlsx"})
            assert (answer.status_code, answer.json()["type"]) == (422, "/problems/too-many-rows")
    assert (await estimate(viewer, format="csv"))["rows"] == pytest.approx(2_000 * 600, rel=0.1)


async def test_tables_that_are_just_being_altered_are_told_at_once(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    async with owner.transaction():
        await owner.execute("lock table items in access exclusive mode")
        answer = await viewer.post(ESTIMATES, json={"dataset": "items"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert "Retry-After" in answer.headers


async def test_same_request_is_the_same_job_down_to_format_csv_and_filename(viewer: httpx.AsyncClient) -> None:
    """Each request that differs in one thing is another job; the same request in other words is the same job."""
    first = {"dataset": "items", "csv": {"delimiter": ";", "bom": True}, "filename": "a-{date}"}
    others = [
        {**first, "format": "jsonl", "csv": None},
        {**first, "compression": "gzip"},
        {**first, "csv": {"delimiter": ";"}},
        {**first, "csv": {}},
        {**first, "filename": "b-{date}"},
        {**first, "filename": None},
        {**first, "retention_hours": 5},
    ]
    ids = [(await viewer.post(JOBS, json=body)).json()["id"] for body in (first, *others)]
    assert len(set(ids)) == len(ids)
    again = {**first, "format": "csv", "csv": {"bom": True, "delimiter": ";", "null": "", "header": True}}
    assert (await viewer.post(JOBS, json=again)).json()["id"] == ids[0]
    same: list[dict[str, Any]] = [{}, {"csv": {}}, {"csv": None}]
    plain = [await viewer.post(JOBS, json={"dataset": "items", **more}) for more in same]
    assert [answer.json()["deduplicated"] for answer in plain] == [False, True, True]


async def test_name_of_the_file_is_what_was_asked_for(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    async with work():
        job = await done(viewer, filename="Bestände {date} {id}", compression="gzip")
        await owner.execute("update export_jobs set expires_at = now() - interval '1 s'")
        # the same template again, with the new values
        await owner.execute("update export_jobs set status = 'expired'")
        again = (await viewer.post(f"{JOBS}/{job['id']}/retry")).json()["id"]
        second = await reaches(viewer, again, "succeeded")
    day = job["snapshot_at"][:10]
    assert job["result"]["filename"] == f"Bestände {day} {job['id'][-8:]}.csv.gz"
    assert second["result"]["filename"] == f"Bestände {second['snapshot_at'][:10]} {again[-8:]}.csv.gz"
    answer = await viewer.head(f"{JOBS}/{again}/download")
    assert f"filename*=UTF-8''Best%C3%A4nde%20{day}%20{again[-8:]}.csv.gz" in answer.headers["Content-Disposition"]


async def test_estimate_asked_for_in_the_earlier_way_submits_nothing_and_is_told_the_new_path(
    viewer: httpx.AsyncClient,
) -> None:
    for value in ("true", "false", ""):
        answer = await viewer.post(f"{JOBS}?validate_only={value}", json={"dataset": "items"})
        assert answer.status_code == 422
        (fault,) = answer.json()["errors"]
        assert (fault["parameter"], ESTIMATES in fault["detail"]) == ("validate_only", True)
    assert (await viewer.get(JOBS)).json()["items"] == []


async def test_submission_has_one_kind_of_answer_in_the_document(viewer: httpx.AsyncClient) -> None:
    paths = (await viewer.get("/schema/openapi.json")).json()["paths"]
    submit, estimated = paths[JOBS]["post"], paths[ESTIMATES]["post"]
    assert [status for status in submit["responses"] if status < "300"] == ["202"]
    assert [status for status in estimated["responses"] if status < "300"] == ["200"]
    assert "validate_only" not in str(paths)
