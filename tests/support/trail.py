"""Sealing in a test's own process, over the connection that a worker would use."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg

from erp_service.audit.sealing.background import sealed_tables
from erp_service.audit.sealing.sealer import Sealer
from erp_service.db.connections import connect
from erp_service.settings import Settings
from tests.support.settings import as_role


@contextlib.asynccontextmanager
async def sealing(settings: Settings, **batches: int) -> AsyncIterator[Sealer]:
    """A sealer that has started. The arguments are those of Sealer."""
    connection = await connect(as_role(settings, "erp_worker").listen_url, name="erp sealer")
    try:
        sealer = Sealer(connection, sealed_tables(), **batches)
        await sealer.start()
        yield sealer
    finally:
        await connection.close()


async def seal_all(settings: Settings) -> None:
    """Seal everything that is committed."""
    async with sealing(settings) as sealer:
        while (await sealer.run()).positions:
            pass


async def sealed(owner: asyncpg.Connection) -> Sequence[tuple[int, Any]]:
    """The positions in order, each with the id of its audit entry or the ids of its rows."""
    rows = await owner.fetch("select position, coalesce(audit_id::text, row_ids::text) from trail order by position")
    return [(position, covers) for position, covers in rows]
