"""The loop in which one worker of the cluster seals, and the others wait for its lock."""

import asyncio

import asyncpg

from erp_service.audit.sealing.sealer import Sealer
from erp_service.db import locks
from erp_service.db.connections import connect
from erp_service.features import FEATURES
from erp_service.registry.background import BackgroundLoop
from erp_service.registry.feature import load
from erp_service.registry.sealed import SealedTable
from erp_service.registry.services import ServiceSet
from erp_service.settings import Settings

APPLICATION = "erp worker, sealing"

PAUSE = 0.2
"""Seconds between two rounds: with the round itself, an event is there well within a second of its commit."""

TRY_SECONDS = 1.0
"""Between two attempts of another worker to get the lock."""

SILENT_SECONDS = 5
"""After so long without a statement the server ends the connection, and so frees the lock: a worker that is paused, or
cut off, does not stop the trail. Each round sends some, and so does each attempt to get the lock."""

_ANSWER_SECONDS = 60.0


def sealed_tables() -> list[SealedTable]:
    return load(FEATURES, "sealed", SealedTable)


async def seal(settings: Settings, *, pause: float = PAUSE, try_seconds: float = TRY_SECONDS) -> None:
    """Seal for ever, as soon as no other worker does. Raises what the database raises."""
    milliseconds = str(SILENT_SECONDS * 1000)
    connection = await connect(
        settings.listen_url,
        name=APPLICATION,
        idle_session_timeout=milliseconds,
        idle_in_transaction_session_timeout=milliseconds,
    )
    try:
        while True:
            if await locks.try_hold(connection, locks.TRAIL):
                await _seal_over(connection, pause)
            await asyncio.sleep(try_seconds)
    finally:
        connection.terminate()


async def _seal_over(connection: asyncpg.Connection, pause: float) -> None:
    sealer = Sealer(connection, sealed_tables())
    async with asyncio.timeout(_ANSWER_SECONDS):
        await sealer.start()
    while True:
        async with asyncio.timeout(_ANSWER_SECONDS):
            result = await sealer.run()
        await asyncio.sleep(0 if result.is_full else pause)


async def _seal(services: ServiceSet) -> None:
    await seal(services.find(Settings))


LOOPS = (BackgroundLoop("seal the trail", _seal),)
