"""What other instances did, heard at once: one LISTEN connection for each process, kept alive and proved alive."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

from erp_service.db.backoff import Backoff
from erp_service.db.connections import connect
from erp_service.observability import telemetry

Hear = Callable[[str | None], None]
"""Called with a payload, or with None after a gap: whatever was known from notices counts no more."""

APPLICATION = "erp notices"
"""What the connection is called; each instance of the API has one, so they can be counted."""

PROOF_EVERY = 0.2  # seconds between proofs that the connection is alive
PROOF_HOLDS = 0.5  # seconds for which a proof counts; with the margin for a load, well under the promised second


class NotificationListener:
    """Subscribe first, then run; `is_current` says whether silence can be trusted at this moment."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._subscribers: dict[str, list[Hear]] = {}
        self._proved = float("-inf")
        self._pauses = Backoff(0.05, 2.0)

    @property
    def is_current(self) -> bool:
        return monotonic() - self._proved < PROOF_HOLDS

    def subscribe(self, channel: str, hear: Hear) -> None:
        self._subscribers.setdefault(channel, []).append(hear)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listens in the background; waits for no first connection, since an instance starts without a database."""
        task = asyncio.create_task(self._run(), name="notices")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            # not a list of kinds: cut in the wrong moment, asyncpg raises its InternalClientError, which is none of
            # its public ones, and an instance whose listener died would look up for ever
            except Exception as exc:  # noqa: BLE001
                telemetry.log.warning("notices lost", error=repr(exc))
            await asyncio.sleep(self._pauses.next())

    async def _listen(self) -> None:
        connection = await connect(self._url, name=APPLICATION)
        try:
            for channel in self._subscribers:
                await connection.add_listener(channel, self._heard)
            # after LISTEN, not before: what was missed meanwhile is forgotten, what comes now is heard
            for hears in self._subscribers.values():
                for hear in hears:
                    hear(None)
            gone = asyncio.Event()
            connection.add_termination_listener(lambda _: gone.set())
            while not gone.is_set():
                asked = monotonic()
                # a peer that vanished says nothing, and Postgres delivers what is pending before it answers
                await connection.execute("select 1", timeout=2)
                self._proved = asked
                self._pauses.reset()
                telemetry.notices_up.set(1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROOF_EVERY):
                        await gone.wait()
        finally:
            self._proved = float("-inf")
            telemetry.notices_up.set(0)
            connection.terminate()

    def _heard(self, _connection: Any, _pid: int, channel: str, payload: Any) -> None:
        for hear in self._subscribers[channel]:
            hear(payload)
