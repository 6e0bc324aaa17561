"""Sealers that die, are paused, race or lose their connection, while transactions commit in every order."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from erp_service.audit.sealing.background import APPLICATION
from erp_service.audit.sealing.proofs import PROOFS
from erp_service.db.engine import Database
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from tests.acceptance.instances import environment
from tests.support.databases import connected
from tests.support.settings import as_role
from tests.support.trail import sealed
from tests.support.waiting import eventually
from tests.support.workers import Work

ENTRY = "insert into audit_log (action, entity, entity_id) values ('item.created', 'item', $1)"
CURRENT = """
select (select count(*) from audit_log) = (select count(*) from trail where audit_id is not null)
  and (select count(*) from audit_log) > $1
"""


@contextlib.contextmanager
def sealer(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = environment(as_role(settings, "erp_worker"))
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.audit.sealing_process"], env=env, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait()


async def write(url: str, seed: int, stop: asyncio.Event) -> None:
    """Transactions of several entries and several durations, some of which roll back."""
    choices = random.Random(seed)
    async with connected(url) as connection:
        number = 0
        while not stop.is_set():
            transaction = connection.transaction()
            await transaction.start()
            for _ in range(choices.randrange(1, 4)):
                number += 1
                await connection.execute(ENTRY, f"{seed}-{number}")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(choices.choice([0.001, 0.01, 0.3])):
                        await stop.wait()
            await (transaction.rollback() if choices.random() < 0.3 else transaction.commit())


async def test_nothing_is_missed_and_nothing_comes_twice_whatever_happens_to_the_sealers(
    settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    stop = asyncio.Event()
    writers = [asyncio.create_task(write(settings.migration_database_url or "", seed, stop)) for seed in range(6)]

    async def goes_on() -> None:
        head = await owner.fetchval("select count(*) from trail")
        await eventually(lambda: owner.fetchval("select count(*) > $1 from trail", head + 20), seconds=40)

    with sealer(settings, tmp_path / "a") as first:
        await goes_on()
        with sealer(settings, tmp_path / "b") as second:
            await eventually(lambda: _sealers(owner, 2))
            first.kill()
            await goes_on()
            with sealer(settings, tmp_path / "c"):
                await eventually(lambda: _sealers(owner, 2))
                second.send_signal(signal.SIGSTOP)
                await goes_on()
                second.send_signal(signal.SIGCONT)
                await goes_on()
                # as a restart of the server does to both
                await owner.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", APPLICATION
                )
                await goes_on()
                assert second.poll() is None
                stop.set()
                await asyncio.gather(*writers)
                count = await owner.fetchval("select count(*) from audit_log")
                await eventually(lambda: owner.fetchval(CURRENT, count - 1))
    assert [position for position, _ in await sealed(owner)] == list(range(1, count + 1))
    assert await verify(settings, PROOFS) == []


async def test_each_worker_is_ready_to_seal_and_events_come_within_its_rounds(
    settings: Settings, database: Database, owner: asyncpg.Connection, work: Work
) -> None:
    async with work(), work():
        await owner.execute(ENTRY, "1")
        await eventually(lambda: owner.fetchval(CURRENT, 0))
        await eventually(lambda: _sealers(owner, 2))


async def _sealers(owner: asyncpg.Connection, count: int) -> bool:
    query = "select count(*) from pg_stat_activity where application_name = $1 and datname = current_database()"
    return bool(await owner.fetchval(query, APPLICATION) == count)
