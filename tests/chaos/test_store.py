"""A worker whose directory is not the one that the database knows: on another host, or not mounted."""

import signal
from datetime import UTC, datetime

from tests.acceptance.instances import worker
from tests.chaos.ground import Ground, since
from tests.chaos.record import Record
from tests.support.waiting import eventually


async def test_worker_has_the_wrong_store(ground: Ground, record: Record) -> None:
    """It takes no export, which would fail there, and logs why; another worker runs it."""
    client = await ground.instance()
    log = ground.logs / "wrong.log"
    async with worker(ground.settings, log, ERP_EXPORT_STORE=f"file://{ground.logs}/elsewhere") as wrong:

        async def told() -> bool:
            return "not the one the database knows" in log.read_text()

        await eventually(told, seconds=40)
        submitted = datetime.now(UTC)
        export = await ground.submit(client)
        await ground.worker()
        effects = await ground.proven(export)
        assert await ground.starts(export) == 1
        assert wrong.process.returncode is None
        begun = await ground.began(export, 1)
        record(seconds=since(submitted, begun), starts=1, effects=effects)
        wrong.signal(signal.SIGTERM)
        await wrong.ended()


async def test_store_is_unmounted_later(ground: Ground, record: Record) -> None:
    """Exports wait while another mount hides the directory, and are then made."""
    client = await ground.instance()
    await ground.worker()
    await ground.proven(await ground.submit(client))
    hidden = ground.files.rename(ground.files.with_name("hidden"))
    ground.files.mkdir()
    unmounted = datetime.now(UTC)
    export = await ground.submit(client)

    async def put_back() -> bool:
        left = "select count(*) from traces where export_id = $1 and attempt > 0 and status = 'queued'"
        return bool(await ground.value(left, export))

    await eventually(put_back, seconds=40)
    ground.files.rmdir()
    hidden.rename(ground.files)
    effects = await ground.proven(export)
    starts = await ground.starts(export)
    assert starts >= 2
    assert await ground.deaths() == 0
    record(seconds=since(unmounted, await ground.began(export, starts)), starts=starts, effects=effects)
