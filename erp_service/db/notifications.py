"""Postgres notifications from other instances, over one LISTEN connection for each process.

The connection is made again after each loss, and proves several times a second that it is alive."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

from erp_service.db.backoff import Backoff
from erp_service.db.connections import connect
from erp_service.observability import telemetry

Subscriber = Callable[[str | None], None]
"""Called with a payload, or with None after a gap: then everything known from notifications may be out of date."""

APPLICATION = "erp notices"
"""The application_name of the connection. Each instance of the API has one, so they can be counted."""

PROOF_EVERY = 0.2  # seconds between proofs that the connection is alive
PROOF_HOLDS = 0.5  # seconds for which a proof counts; with the margin for a load, well under the promised second


class NotificationListener:
    """Subscribe first, then listen. While `is_current`, no notification means that nothing has happened."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._subscribers: dict[str, list[Subscriber]] = {}
        self._proved_at = float("-inf")
        self._pauses = Backoff(0.05, 2.0)

    @property
    def is_current(self) -> bool:
        return monotonic() - self._proved_at < PROOF_HOLDS

    def subscribe(self, channel: str, subscriber: Subscriber) -> None:
        self._subscribers.setdefault(channel, []).append(subscriber)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen in the background. It does not wait for the connection: an instance starts without a database."""
        task = asyncio.create_task(self._run(), name="notifications")
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
            except Exception as exc:  # noqa: BLE001 whatever it is: without this task, each request looks up roles
                telemetry.log.warning("no notifications, connecting again", error=exc)
            await asyncio.sleep(self._pauses.next())

    async def _listen(self) -> None:
        """Until the connection is lost."""
        connection = await connect(self._url, name=APPLICATION)
        try:
            for channel in self._subscribers:
                await connection.add_listener(channel, self._deliver)
            # after LISTEN and not before: what was missed is now forgotten, and what comes now is delivered
            for subscribers in self._subscribers.values():
                for subscriber in subscribers:
                    subscriber(None)
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            while not lost.is_set():
                sent_at = monotonic()
                # a peer that vanished is silent; Postgres delivers pending notifications before it answers
                await connection.execute("select 1", timeout=2)
                self._proved_at = sent_at
                self._pauses.reset()
                telemetry.notices_up.set(1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROOF_EVERY):
                        await lost.wait()
        finally:
            self._proved_at = float("-inf")
            telemetry.notices_up.set(0)
            connection.terminate()

    def _deliver(self, _connection: Any, _pid: int, channel: str, payload: Any) -> None:
        for subscriber in self._subscribers[channel]:
            subscriber(payload)
