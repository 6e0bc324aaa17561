"""From the submission to the downloaded file, as clients see it."""

import hashlib

import asyncpg
import httpx
import pytest

from erp_service.exports.catalogue import DATASETS
from erp_service.exports.datasets import psql_text
from tests.exports.conftest import JOBS, Psql, Work, done, fill


@pytest.mark.parametrize("dataset", sorted(DATASETS))
async def test_export_is_byte_for_byte_what_psql_copy_writes(
    dataset: str, admin: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, psql: Psql
) -> None:
    await fill(owner, int(admin.headers["X-User-Id"]))
    async with work():
        job = await done(admin, dataset)
    assert job["status"] == "succeeded", job
    file = await admin.get(f"{JOBS}/{job['id']}/download")
    assert file.status_code == 200
    # the exports themselves are audited: what came after the snapshot is not in the file
    before = f"select * from ({psql_text(DATASETS[dataset])}) q"
    if dataset == "audit_log":
        before += f" where at < '{job['snapshot_at']}'"
    assert file.content == psql(before if dataset == "audit_log" else psql_text(DATASETS[dataset]))
    assert job["result"]["bytes"] == len(file.content) == int(file.headers["Content-Length"])
    assert job["result"]["sha256"] == hashlib.sha256(file.content).hexdigest()
    assert job["result"]["rows"] > 0
