"""When each API key was last used, to the minute, without a write for each request.

Each instance keeps its own newest minutes and writes them together once a minute, and when it stops. What an instance
that is killed had not written yet is lost: the next use makes it good."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from sqlalchemy import text

from erp_service.db.engine import Database
from erp_service.db.statements import Prepared, number_array
from erp_service.observability import telemetry

EVERY = 60.0
_STOP_SECONDS = 2.0

# Locked in one order, so that two instances that write the same keys do not wait for each other.
_WRITE = Prepared(
    text("""
    with used as (
      select id, to_timestamp(minute * 60) as at
      from unnest(cast(cast(:ids as text) as bigint[]), cast(cast(:minutes as text) as bigint[])) used (id, minute)
    ), present as (
      select api_keys.id, used.at from api_keys join used on used.id = api_keys.id
      where api_keys.last_used_at is null or api_keys.last_used_at < used.at
      order by api_keys.id for no key update of api_keys
    )
    update api_keys set last_used_at = greatest(api_keys.last_used_at, present.at)
    from present where api_keys.id = present.id
    """)
)


class KeyUses:
    """One for each instance of the API. `every` is in seconds."""

    def __init__(self, database: Database, *, every: float = EVERY) -> None:
        self._database, self._every = database, every
        self._minutes: dict[int, int] = {}

    def note(self, key_id: int) -> None:
        """The key has just been used. Never waits."""
        self._minutes[key_id] = int(time.time()) // 60

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run(), name="uses of keys")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self.write()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.write()

    async def write(self) -> None:
        """Write what was noted. What cannot be written now is written the next time."""
        minutes, self._minutes = self._minutes, {}
        if not minutes:
            return
        try:
            async with self._database.autocommit() as db:
                values = {"ids": number_array(minutes), "minutes": number_array(minutes.values())}
                await db.execute(_WRITE, values)
        # whatever it is: without this task, no use would be recorded any more
        except Exception as exc:  # noqa: BLE001
            telemetry.log.warning("the last uses of API keys were not written", error=exc)
            self._minutes = {**minutes, **self._minutes}
