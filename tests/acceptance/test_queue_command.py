"""`erp queue` as a real process."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx

from erp_service.settings import Settings
from tests.acceptance.instances import environment, worker
from tests.support.waiting import eventually

JOBS = "/api/v1/exports/jobs"


async def erp_queue(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "erp_service", "queue", *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_empty_queue_is_said_to_be_empty(settings: Settings, database_name: str) -> None:
    done = await erp_queue(settings)
    assert done.returncode == 0, done.stderr
    assert "workers: none" in done.stdout
    assert "nothing waits" in done.stdout


async def test_what_goes_on_is_seen_by_people_and_by_programs_and_can_be_ended(
    settings: Settings, viewer: httpx.AsyncClient, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    submitted = [await viewer.post(JOBS, json={"dataset": "items", "force_new": True}) for _ in range(3)]
    ids = [answer.json()["id"] for answer in submitted]
    # a lock stops the COPY, so that the exports keep running
    await owner.execute("begin; lock table items in access exclusive mode")
    async with worker(settings, tmp_path / "worker.log") as process:

        async def running() -> dict[str, list[dict[str, object]]] | None:
            done = await erp_queue(settings, "--json")
            assert done.returncode == 0, done.stderr
            seen: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
            return seen if [job for job in seen["jobs"] if job["status"] == "doing"] else None

        seen = await eventually(running, seconds=30)
        assert seen is not None
        assert [w["pid"] for w in seen["workers"]] == [process.pid]
        assert seen["workers"][0]["holds_lock"] is True
        people = await erp_queue(settings)
        assert people.returncode == 0, people.stderr
        for word in ("works", "items", ids[0], str(process.pid)):
            assert str(word) in people.stdout, people.stdout
        ended = await erp_queue(settings, "cancel", ids[0])
        assert ended.returncode == 0, ended.stderr
        assert "cancel" in ended.stdout
        again = await erp_queue(settings, "retry", ids[1])
        assert again.returncode == 1
        await owner.execute("rollback")


async def test_refusals_are_one_clear_line(settings: Settings, database_name: str) -> None:
    for arguments, words in (
        (("retry", "12345"), "no job 12345"),
        (("cancel", "00000000-0000-7000-8000-000000000000"), "no export"),
        (("cancel", "everything"), "neither the id of an export nor the number of a job"),
    ):
        done = await erp_queue(settings, *arguments)
        assert done.returncode != 0
        assert words in done.stderr
        assert "Traceback" not in done.stderr
