"""The year over HTTP: of 37 bad lines each is named, and nothing is loaded; the mended file loads, once."""

import gzip
import lzma
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from erp_service.access.principals import system
from erp_service.access.roles import Role
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.imports.service import load
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import instance, signed_in, worker
from tests.imports.jobs import JOBS, ended
from tests.real.year import DATA, FILES, MOVEMENTS
from tests.support.databases import as_owner, connected
from tests.support.settings import settings_for
from tests.support.users import make_user

BAD = 37
MOST_MEMORY = 500 * 1024
"""KiB of the worker at most, for a file of 32 MB: it holds what the file names, and not its rows."""


@pytest.fixture
async def empty(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Settings]:
    """A database of its own, with the year's items and locations."""
    name = "year_over_http"
    await as_owner(cluster, f'create database "{name}"')
    await schema.migrate(cluster.owner_url(name))
    settings = settings_for(cluster, name, tmp_path)
    for kind in ("items", "locations"):
        await load(settings.database_url, kind, DATA / FILES[kind], who=system("test"))
    yield settings
    await as_owner(cluster, f'drop database "{name}" with (force)')


def damaged(lines: list[str]) -> tuple[list[str], set[int]]:
    """The file with bad lines, far apart and of several kinds; and their numbers."""
    columns = lines[0].rstrip("\n").split(",")
    kinds = [
        ("quantity", "many"),
        ("sku", "NO-SUCH-ITEM"),
        ("occurred_at", "yesterday"),
        ("type", "LOST"),
        ("location", "?"),
    ]
    copy, numbers = list(lines), set()
    for count in range(BAD):
        index = 1 + count * (len(lines) // BAD)
        column, value = kinds[count % len(kinds)]
        # before the first quoted cell, so that no cell is torn apart
        cells = copy[index].split(",")
        cells[columns.index(column)] = value
        copy[index] = ",".join(cells)
        numbers.add(index + 1)
    return copy, numbers


async def imported(client: httpx.AsyncClient, content: bytes, **query: Any) -> dict[str, Any]:
    answer = await client.post(
        JOBS,
        params={"dataset": "movements", **query},
        content=content,
        headers={"Content-Type": "application/octet-stream"},
        timeout=120,
    )
    assert answer.status_code == 202, answer.text
    return await ended(client, answer.json(), seconds=600)


def peak(pid: int) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


async def test_the_year_over_http(empty: Settings, tmp_path: Path) -> None:
    packed = (DATA / FILES["movements"]).read_bytes()
    lines = lzma.decompress(packed).decode().splitlines(keepends=True)
    bad, numbers = damaged(lines)
    database = Database(empty)
    user_id = await make_user(database, Role.ADMIN)
    await database.close()
    async with (
        instance(empty, tmp_path / "api.log") as api,
        worker(empty, tmp_path / "worker.log") as process,
        signed_in(api, empty, user_id) as client,
        connected(empty.migration_database_url or "") as owner,
    ):
        tried = await imported(client, gzip.compress("".join(bad).encode(), 1), dry_run=True)
        assert tried["status"] == "failed"
        assert len(numbers) == BAD
        assert {fault["line"] for fault in tried["faults"]} == numbers
        assert await owner.fetchval("select count(*) from stock_ledger") == 0
        done = await imported(client, packed)
        assert done["status"] == "succeeded", done
        assert done["result"]["rows"] == MOVEMENTS
        assert peak(process.pid) < MOST_MEMORY
        again = await imported(client, gzip.compress("".join(lines).encode(), 1))
        assert "imported already" in again["error"]["detail"]
        assert await owner.fetchval("select count(*) from stock_ledger") == MOVEMENTS
        assert await verify(empty) == []
