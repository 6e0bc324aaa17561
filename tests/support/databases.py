"""What a test does to the databases of its server, as their owner."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from erp_service.standalone.postgres import Cluster


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def as_owner(cluster: Cluster, *statements: str, database: str = "postgres") -> None:
    async with connected(cluster.owner_url(database)) as connection:
        for statement in statements:
            await connection.execute(statement)


async def value_of(cluster: Cluster, query: str, database: str = "postgres") -> object:
    """The first column of the first row, read as the owner; None without a row."""
    async with connected(cluster.owner_url(database)) as connection:
        return await connection.fetchval(query)
