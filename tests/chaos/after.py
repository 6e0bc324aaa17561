"""What must hold after a fault."""

import signal

import httpx

from tests.acceptance.instances import Process
from tests.chaos.ground import Ground


async def lives_on(ground: Ground, client: httpx.AsyncClient, worker: Process) -> None:
    """Stops all other workers; this one must still run an export."""
    for other in ground.others(worker):
        if other.process.returncode is None:
            other.signal(signal.SIGTERM)
            await other.ended()
    assert worker.process.returncode is None
    await ground.proven(await ground.submit(client))


async def never_back(ground: Ground, export: str) -> None:
    """No older attempt wrote anything after a newer one had begun."""
    rows = await ground.fetch("select attempt, status from traces where export_id = $1 order by at", export)
    attempts = [row["attempt"] for row in rows]
    assert attempts == sorted(attempts)
    assert [row["status"] for row in rows].count("succeeded") == 1
