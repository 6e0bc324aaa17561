"""The service that the tests of clients share."""

from typing import NamedTuple

import asyncpg

from erp_service.settings import Settings

ROWS = 20_000
EMAIL, PASSWORD = "scripts@example.com", "a long walk by the sea"


class Service(NamedTuple):
    """Two instances and a worker on a database with items, some megabytes as CSV, and a user who may read them."""

    urls: list[str]
    settings: Settings
    token: str
    user_id: int

    async def owner(self) -> asyncpg.Connection:
        """A superuser's connection, to read what is stored and to damage it. The caller closes it."""
        return await asyncpg.connect(self.settings.migration_database_url or "")
