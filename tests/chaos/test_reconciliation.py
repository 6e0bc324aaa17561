"""Export, queue and store disagree, by whatever accident: each comes to a true state within a minute.

One cluster has all these faults at once, since the upkeep comes once a minute."""

import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.standalone.postgres import Cluster
from tests.chaos.ground import JOBS, Ground, since
from tests.chaos.record import Record
from tests.support.company import set_company_at
from tests.support.settings import settings_for
from tests.support.users import make_user, token_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("reconciliation")

IN_TIME = 75.0
"""Maintenance runs once a minute; the rest is a generous margin for its work."""

OLD = 2 * 3600.0  # seconds; longer than the grace of a file that no row names


class Broken(NamedTuple):
    ground: Ground
    client: httpx.AsyncClient
    at: datetime
    exports: dict[str, str]
    files: dict[str, Path]


@pytest.fixture(scope="module")
async def broken(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broken]:
    name, logs = f"broken_{os.getpid()}", tmp_path_factory.mktemp("broken")
    cluster.create_database(name)
    await schema.migrate(cluster.owner_url(name))
    # so many at once that each has its queue job while there is no worker yet
    await set_company_at(cluster.owner_url(name), exports_running_per_user=4)
    settings = settings_for(cluster, name, logs)
    database = Database(settings, name="erp test")
    token = token_of(settings, await make_user(database, Role.ADMIN))
    await database.close()
    async with contextlib.AsyncExitStack() as stack:
        ground = Ground(settings, cluster, token, logs, stack)
        await ground.prepare()
        client = await ground.instance()
        exports = {fault: await ground.submit(client) for fault in ("vanished", "failed", "aborted", "missed")}
        queue_job = "(select queue_job_id from export_jobs where id = $1)"
        delete = f"delete from procrastinate_jobs where id = {queue_job}"
        ended = f"update procrastinate_jobs set status = $2 where id = {queue_job}"
        await ground.fetch(delete, exports["vanished"])
        for status in ("failed", "aborted"):
            await ground.fetch(ended, exports[status], status)
        await ground.fetch(delete, exports["missed"])
        await ground.fetch("update export_jobs set queue_job_id = null where id = $1", exports["missed"])
        at = datetime.now(UTC)
        await ground.worker()
        whole = await ground.submit(client)
        await ground.ends(whole)
        exports["expired"] = whole
        await ground.fetch("update export_jobs set expires_at = now() - interval '1 s' where id = $1", whole)
        yield Broken(ground, client, at, exports, _strangers(ground.files, whole))


def _strangers(store: Path, whole: str) -> dict[str, Path]:
    files = {
        "part": store / f"{uuid4()}.1.csv.part",
        "published": store / f"{uuid4()}.1.csv",
        "older attempt": store / f"{whole}.0.csv.part",
        "expired": store / f"{whole}.1.csv",
        "young": store / f"{uuid4()}.1.csv.part",
    }
    for name, path in files.items():
        if name != "expired":
            path.write_bytes(b"id\n1\n")
        if name not in ("young", "expired"):
            moment = datetime.now(UTC).timestamp() - OLD
            os.utime(path, (moment, moment))
    assert all(path.exists() for path in files.values())
    return files


@pytest.mark.parametrize("how", ["vanished", "failed", "aborted"])
async def test_queue_job_of_an_export(broken: Broken, record: Record, how: str) -> None:
    row = await broken.ground.ends(broken.exports[how], "failed", seconds=IN_TIME)
    problem = (await broken.client.get(f"{JOBS}/{broken.exports[how]}")).json()["error"]
    assert problem["type"] == "/problems/export-abandoned"
    record(seconds=since(broken.at, row["finished_at"]), starts=0, effects="failed, says why")


async def test_admission_was_missed(broken: Broken, record: Record) -> None:
    """Made up for by the end of another export, or by maintenance."""
    row = await broken.ground.ends(broken.exports["missed"], seconds=IN_TIME)
    effects = await broken.ground.proven(broken.exports["missed"])
    record(seconds=since(broken.at, row["started_at"]), starts=1, effects=effects)


@pytest.mark.parametrize("which", ["part", "published", "older attempt", "expired"])
async def test_file_that_no_row_names(broken: Broken, record: Record, which: str) -> None:
    async def gone() -> bool:
        return not broken.files[which].exists()

    await eventually(gone, seconds=IN_TIME)
    record(seconds=since(broken.at), starts="-", effects="removed")
    assert broken.files["young"].exists(), "it may be on its way to be published"
    expired = await broken.client.get(f"{JOBS}/{broken.exports['expired']}")
    assert expired.status_code == 200, "the row stays as a record"
