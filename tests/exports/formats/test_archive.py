"""The dataset `all`: one archive of one snapshot, complete or absent, with nothing that the role does not allow."""

import asyncio
import csv
import hashlib
import io
import json
import random
import zipfile
from collections import defaultdict
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.storage.proofs import PROOFS
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from tests.exports.data import fill
from tests.exports.jobs import JOBS, done, reaches, submitted
from tests.support.clients import SignIn, UserClient
from tests.support.waiting import eventually
from tests.support.workers import Work

VIEWERS = ["items", "locations", "stock_levels", "stock_values", "stock_movements"]


async def archive_of(client: httpx.AsyncClient, job: dict[str, Any]) -> zipfile.ZipFile:
    """The downloaded archive; each of its files agrees with the manifest."""
    assert job["status"] == "succeeded", job
    answer = await client.get(f"{JOBS}/{job['id']}/download")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == job["result"]["media_type"] == "application/zip"
    assert hashlib.sha256(answer.content).hexdigest() == job["result"]["sha256"]
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    manifest = manifest_of(archive)
    assert archive.namelist() == [*(file["name"] for file in manifest["files"]), "manifest.json"]
    for file in manifest["files"]:
        content = archive.read(file["name"])
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    assert sum(file["rows"] for file in manifest["files"]) == manifest["rows"] == job["result"]["rows"]
    return archive


def manifest_of(archive: zipfile.ZipFile) -> dict[str, Any]:
    return json.loads(archive.read("manifest.json"))  # type: ignore[no-any-return]


def rows_of(archive: zipfile.ZipFile, dataset: str) -> list[dict[str, str]]:
    with archive.open(f"{dataset}.csv") as file:
        return list(csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline="")))


async def test_each_file_is_byte_for_byte_the_export_of_its_dataset(
    viewer: UserClient, owner: asyncpg.Connection, work: Work, settings: Settings
) -> None:
    await fill(owner, viewer.user_id)
    async with work():
        job = await done(viewer, "all")
        archive = await archive_of(viewer, job)
        for name in VIEWERS:
            lifted = any(known.lifts for known in DATASETS[name].filters)
            alone = await done(viewer, name, filter={"include_deleted": True} if lifted else {})
            file = await viewer.get(f"{JOBS}/{alone['id']}/download")
            assert archive.read(f"{name}.csv") == file.content, name
    assert await verify(settings, PROOFS) == []
    assert job["progress"]["rows_total"] == job["progress"]["rows_done"] == job["result"]["rows"]
    assert job["result"]["filename"].startswith("all-")
    assert job["result"]["filename"].endswith(".zip")


async def test_manifest_says_what_is_in_the_archive_and_from_when(viewer: UserClient, work: Work) -> None:
    async with work():
        job = await done(viewer, "all", csv={"delimiter": ";"}, filename="books-{date}")
    archive = await archive_of(viewer, job)
    manifest = manifest_of(archive)
    assert manifest["export_id"] == job["id"]
    assert manifest["snapshot_at"] == job["snapshot_at"]
    assert manifest["created_by"] == viewer.user_id
    assert (manifest["service"], manifest["version"]) == ("erp-service", "0.1.0")
    assert (manifest["format"], manifest["csv"]) == ("csv", {"delimiter": ";"})
    columns = {file["dataset"]: file["columns"] for file in manifest["files"]}
    assert list(columns) == VIEWERS
    assert columns["stock_levels"][6] == {"name": "on_hand", "type": "decimal", "description": "the quantity on hand"}
    assert archive.read("items.csv").startswith(b"id;sku;")
    assert job["result"]["filename"] == f"books-{job['snapshot_at'][:10]}.zip"
    assert archive.getinfo("items.csv").date_time[:3] == tuple(int(n) for n in job["snapshot_at"][:10].split("-"))


@pytest.mark.parametrize("format_", ["jsonl", "xlsx", "parquet"])
async def test_archive_comes_in_every_format(
    format_: str, viewer: UserClient, owner: asyncpg.Connection, work: Work
) -> None:
    await fill(owner, viewer.user_id, movements=50)
    async with work():
        archive = await archive_of(viewer, await done(viewer, "all", format=format_))
    beginnings = {"jsonl": b'{"', "xlsx": b"PK", "parquet": b"PAR1"}
    for name in VIEWERS:
        content = archive.read(f"{name}.{format_}")
        assert content.startswith(beginnings[format_])
        packed = archive.getinfo(f"{name}.{format_}").compress_size
        assert (packed < len(content)) == (format_ == "jsonl"), "what is compressed already is not compressed again"


async def test_sums_agree_across_the_files_although_trade_goes_on_meanwhile(
    viewer: httpx.AsyncClient, staff: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    await owner.execute(
        "insert into items (sku, name, unit) select 'SKU-' || n, 'x', 'PCS' from generate_series(1, 5) n;"
        "insert into locations (code, name, location_type, allow_negative_stock)"
        " select 'L' || n, 'x', 'WAREHOUSE', true from generate_series(1, 3) n"
    )
    for n in range(1, 6):
        first = {"sku": f"SKU-{n}", "location": "L1", "quantity": "100", "unit_cost": "1.37"}
        (await staff.post("/api/v1/inventory/stock/in", json=first)).raise_for_status()
    booked, closed = 0, asyncio.Event()

    async def trade(seed: int) -> None:
        nonlocal booked
        chance = random.Random(seed)
        while not closed.is_set():
            quantity = f"{chance.randint(1, 999)}.{chance.randint(1, 9)}"
            line = {"sku": f"SKU-{chance.randint(1, 5)}", "quantity": quantity}
            here, there = chance.sample(["L1", "L2", "L3"], 2)
            places = {"from_location": here, "to_location": there}
            kind = chance.choice(["in", "out", "transfer"])
            place = places if kind == "transfer" else {"location": here}
            answer = await staff.post(f"/api/v1/inventory/stock/{kind}", json=line | place)
            assert answer.status_code == 201, answer.text
            booked += 1

    traders = [asyncio.create_task(trade(seed)) for seed in range(3)]
    meanwhile = []
    try:
        async with work():
            for _ in range(5):
                began = booked
                archive = await archive_of(viewer, await done(viewer, "all"))
                sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
                values: dict[str, Decimal] = defaultdict(Decimal)
                for row in rows_of(archive, "stock_movements"):
                    sums[row["sku"], row["location"]] += Decimal(row["quantity"])
                    values[row["sku"]] += Decimal(row["value"])
                levels = rows_of(archive, "stock_levels")
                assert {(row["sku"], row["location"]): Decimal(row["on_hand"]) for row in levels} == sums
                shares: dict[str, Decimal] = defaultdict(Decimal)
                for row in levels:
                    shares[row["sku"]] += Decimal(row["value"])
                assert shares == values
                stock_values = rows_of(archive, "stock_values")
                assert {row["sku"]: Decimal(row["value"]) for row in stock_values} == values
                meanwhile.append(booked - began)
    finally:
        closed.set()
        await asyncio.gather(*traders)
    assert all(meanwhile), "there was trade during each of them"


async def test_archive_holds_what_the_role_allows(
    viewer: httpx.AsyncClient, admin: httpx.AsyncClient, work: Work
) -> None:
    async with work():
        mine = await archive_of(viewer, await done(viewer, "all"))
        theirs = await archive_of(admin, await done(admin, "all"))
    assert mine.namelist() == [f"{name}.csv" for name in VIEWERS] + ["manifest.json"]
    assert set(theirs.namelist()) == {f"{name}.csv" for name in DATASETS} | {"manifest.json"}


async def test_who_loses_the_role_before_the_turn_gets_no_archive(
    admin: UserClient, owner: asyncpg.Connection, work: Work
) -> None:
    export_id = await submitted(admin, "all")
    await owner.execute("update users set role = 'STAFF' where id = $1", admin.user_id)
    async with work():
        job = await reaches(admin, export_id, "failed")
        assert job["error"]["type"] == "/problems/export-forbidden"
        # a retry gives what the present role allows
        again = await admin.post(f"{JOBS}/{export_id}/retry")
        assert again.status_code == 202, again.text
        archive = await archive_of(admin, await reaches(admin, again.json()["id"], "succeeded"))
    assert [file["dataset"] for file in manifest_of(archive)["files"]] == [*VIEWERS, "reservations", "counts"]


async def test_who_loses_the_role_afterwards_downloads_nothing(
    admin: UserClient, viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work
) -> None:
    async with work():
        theirs, mine = await done(admin, "all"), await done(viewer, "all")
    await owner.execute("update users set role = 'VIEWER' where id = $1", admin.user_id)

    async def refused() -> bool:
        return (await admin.get(f"{JOBS}/{theirs['id']}/download")).status_code == 403

    await eventually(refused)
    await archive_of(viewer, mine)


async def test_what_is_for_one_dataset_is_refused_all_at_once(viewer: httpx.AsyncClient) -> None:
    body = {
        "dataset": "all",
        "columns": ["sku"],
        "filter": {"sku": "1"},
        "sort": "id",
        "compression": "gzip",
        "filename": "a/b",
    }
    for path in (JOBS, "/api/v1/exports/estimates"):
        answer = await viewer.post(path, json=body)
        assert answer.status_code == 422
        assert {fault["pointer"] for fault in answer.json()["errors"]} == {
            "/columns", "/filter", "/sort", "/compression", "/filename",
        }  # fmt: skip


async def test_same_archive_again_is_the_one_that_waits(viewer: httpx.AsyncClient) -> None:
    first, again, other = [
        (await viewer.post(JOBS, json={"dataset": "all", "format": format_})).json()
        for format_ in ("csv", "csv", "jsonl")
    ]
    assert (again["id"], again["deduplicated"]) == (first["id"], True)
    assert other["id"] != first["id"]
    assert [job["id"] for job in (await viewer.get(f"{JOBS}?dataset=all")).json()["items"]] == [
        other["id"],
        first["id"],
    ]


async def test_archive_on_a_schedule(viewer: httpx.AsyncClient, work: Work) -> None:
    spec = {"dataset": "all", "format": "jsonl", "filename": "{dataset}-{date}"}
    made = await viewer.post("/api/v1/exports/schedules", json={"cron": "0 6 * * *", "spec": spec})
    assert made.status_code == 201, made.text
    async with work():
        run = await viewer.post(f"/api/v1/exports/schedules/{made.json()['id']}/run")
        assert run.status_code == 202, run.text
        job = await reaches(viewer, run.json()["id"], "succeeded")
    await archive_of(viewer, job)
    bad = await viewer.post("/api/v1/exports/schedules", json={"cron": "0 6 * * *", "spec": {**spec, "sort": "id"}})
    assert [fault["pointer"] for fault in bad.json()["errors"]] == ["/spec/sort"]


async def test_catalogue_lists_it_for_everybody(sign_in: SignIn) -> None:
    for role in (Role.VIEWER, Role.ADMIN):
        found = (await (await sign_in(role)).get("/api/v1/exports/datasets")).json()["items"]
        (whole,) = [one for one in found if one["name"] == "all"]
        assert (whole["allowed"], whole["columns"], whole["filters"], whole["sorts"]) == (True, [], [], [])
        assert set(whole["formats"]) == set(found[0]["formats"])
        assert whole["compressions"] == ["none"]
