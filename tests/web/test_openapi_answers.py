"""Real answers and the document: every header and every problem that is sent is documented, and every example works."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.auth.users import first_super_admin
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone.demo import load_colleague, load_demo
from tests.support.clients import client_of
from tests.support.users import token_of
from tests.support.workers import Work
from tests.web.openapi import DOCUMENT, Operation, operation_of, operations, problems_of, resolved

UNDOCUMENTED = {
    *("content-type", "content-length", "date", "server", "cache-control", "pragma", "vary"),
    *("connection", "content-security-policy", "x-content-type-options", "referrer-policy", "x-frame-options"),
}
"""What every HTTP client sees to by itself, and what only browsers read."""


class Recorder:
    """Compares each answer with what the document says of it."""

    def __init__(self) -> None:
        self.headers: set[str] = set()
        self.problems: set[str] = set()

    async def __call__(self, answer: httpx.Response) -> None:
        operation = operation_of(answer.request)
        where = f"{operation.id} {answer.status_code}"
        said = operation.said["responses"].get(str(answer.status_code))
        assert said is not None, f"{where} is not documented"
        documented = {name.lower() for name in said["headers"]}
        sent = set(answer.headers) - UNDOCUMENTED
        assert sent <= documented, f"{where} sends {sent - documented}"
        self.headers |= sent
        if answer.headers.get("content-type") == "application/problem+json":
            await answer.aread()
            problem = answer.json()
            schema = problems_of(said)[problem["type"]]
            assert problem.keys() <= schema["properties"].keys(), where
            self.problems.add(problem["type"])


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def demo(
    app: Litestar, database: Database, settings: Settings, recorder: Recorder
) -> AsyncIterator[httpx.AsyncClient]:
    """The owner's client of a service with the demo data, as `erp up` makes it."""
    await first_super_admin(database, "owner@example.com", "a long walk by the sea")
    await load_demo(settings.database_url)
    await load_colleague(database)
    async with client_of(app, token_of(settings, 1)) as client:
        client.event_hooks["response"].append(recorder)
        yield client


_IMPORTED = """
insert into import_jobs (id, user_id, dataset, spec, retention_hours, most_role, filename, file_bytes)
  values ('00000000-0000-7000-8000-000000000001', 1, 'movements', '{}', 1, 'ADMIN', 'movements.csv', 1);
update import_jobs set status = 'running' where dataset = 'movements';
update import_jobs set status = 'succeeded', result_rows = 1, result = '{"rows": 1}',
  import_id = (select id from imports where kind = 'movements') where dataset = 'movements';
"""
"""The job of an import as a worker leaves it."""


async def test_each_example_works_as_it_is_offered(demo: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    """In the order of the document; an id that only the answer to another example tells is taken from there."""
    ids: dict[str, Any] = {}
    for operation in (one for one in operations() if one.example() is not None):
        answer = await send(demo, operation, ids)
        assert answer.is_success, f"{operation.id}: {answer.text}"
        if operation.id == "receiveStock":
            ids["transaction_id"] = answer.json()["transaction_id"]
        if operation.id == "submitImport":
            await owner.execute(_IMPORTED)
            ids["job_id"] = "00000000-0000-7000-8000-000000000001"
        if operation.id == "openCount":
            ids["count_id"] = answer.json()["id"]
        if operation.id == "createReservation":
            ids["reservation_id"] = answer.json()["id"]
        if operation.id == "createSchedule":
            ids["schedule_id"] = answer.json()["id"]
        if operation.id == "createWebhook":
            ids["webhook_id"] = answer.json()["id"]


async def send(demo: httpx.AsyncClient, operation: Operation, ids: dict[str, Any]) -> httpx.Response:
    offered = {one["name"]: one["example"] for one in operation.parameters() if "example" in one} | ids
    required = [one for one in operation.parameters() if one["in"] == "query" and one["required"]]
    query = {one["name"]: resolved(one["schema"])["enum"][0] for one in required}
    example = operation.example()
    body: dict[str, Any] = {"json": example}
    if isinstance(example, str):
        body = {"content": example, "headers": {"Content-Type": "text/csv"}}
    return await demo.request(operation.method, operation.path.format(**offered), params=query, **body)


async def test_what_is_sent_is_documented(demo: httpx.AsyncClient, recorder: Recorder, work: Work) -> None:
    """A tour of every kind of answer. Every header that the document knows is really sent by some route."""
    items, stock, jobs = "/api/v1/inventory/items", "/api/v1/inventory/stock", "/api/v1/exports/jobs"
    await demo.get(items, params={"limit": 1})
    etag = (await demo.get(f"{items}/1")).headers["etag"]
    assert (await demo.get(f"{items}/1", headers={"If-None-Match": etag})).status_code == 304
    body = {"sku": "MUG-01", "name": "Mug", "unit": "pcs"}
    for _ in range(2):
        await demo.post(items, json=body, headers={"Idempotency-Key": "once"})
    assert (await demo.post(items, json=body)).status_code == 409
    assert (await demo.put(f"{items}/1", json=body, headers={"If-Match": '"0"'})).status_code == 412
    assert (await demo.post(items, json={})).status_code == 422
    assert (await demo.post(items, content=b"{")).status_code == 400
    assert (await demo.get(f"{items}/999999")).status_code == 404
    assert (await demo.delete(f"{items}/1")).status_code == 409
    assert (await demo.delete("/api/v1/inventory/locations/1")).status_code == 409
    assert (await demo.get(items, headers={"Authorization": "Bearer nothing"})).status_code == 401
    too_much = {"sku": "BEAN-ESP-1K", "location": "MAIN-A-01", "quantity": 1_000_000}
    assert (await demo.post(f"{stock}/out", json=too_much)).status_code == 409
    both = {"sku": "BEAN-ESP-1K", "from_location": "MAIN-A-01", "to_location": "SHOP-FLOOR", "quantity": 1}
    document = (await demo.post(f"{stock}/transfer", json=both)).headers["location"]
    await demo.get(document)
    await demo.post("/api/v1/auth/login", data={"username": "owner@example.com", "password": "a wrong password"})
    for path in ("auth/me", "users/2", "inventory/reports/snapshot.csv", "exports/datasets", "audit", "users"):
        await demo.get(f"/api/v1/{path}")
    for path in ("", "/live", "/ready", "/reading", "/startup", "/database", "/scaling"):
        await demo.get(f"/health{path}")
    job = (await demo.post(jobs, json={"dataset": "items"})).json()["id"]
    assert (await demo.get(f"{jobs}/{job}/download")).status_code == 409
    await demo.get(f"{jobs}/{job}", headers={"Prefer": "wait=0"})
    async with work():
        while (await demo.get(f"{jobs}/{job}", headers={"Prefer": "wait=5"})).json()["status"] != "succeeded":
            pass
    download = f"{jobs}/{job}/download"
    tag = (await demo.get(download)).headers["etag"]
    await demo.head(download)
    assert (await demo.get(download, headers={"Range": "bytes=0-9"})).status_code == 206
    assert (await demo.get(download, headers={"Range": "bytes=9999999-"})).status_code == 416
    assert (await demo.get(download, headers={"If-None-Match": tag})).status_code == 304
    await demo.post(f"{jobs}/{job}/download-url")
    assert (await demo.get(f"{jobs}/{uuid.uuid4()}")).status_code == 404
    while (await demo.post("/api/v1/exports/estimates", json={"dataset": "items"})).status_code != 429:
        pass
    known = {
        name.lower() for one in operations() for said in one.said["responses"].values() for name in said["headers"]
    }
    assert known - recorder.headers - UNDOCUMENTED == {"erp-data-as-of"}, "sent while no primary can be reached"
    assert "/problems/insufficient-stock" in recorder.problems


async def test_the_document_is_made_without_stopping_others(app: Litestar, client: httpx.AsyncClient) -> None:
    """Generating it takes a quarter of a second: a thread does, once, however many ask at the same time."""
    answers = await asyncio.gather(*(client.get(path) for path in ("/schema/openapi.json", "/schema", "/schema/")))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json() == DOCUMENT
    assert answers[0].headers["content-type"] == "application/vnd.oai.openapi+json"
