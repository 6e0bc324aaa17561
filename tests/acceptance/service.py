"""The service that the tests of clients share."""

from typing import NamedTuple

import asyncpg

from erp_service.db.connections import asyncpg_arguments
from erp_service.settings import Settings

ROWS = 20_000
EMAIL, PASSWORD = "scripts@example.com", "a long walk by the sea"


class Service(NamedTuple):
    """Two instances and a worker over a database with items, some megabytes as CSV; the user may read them."""

    urls: list[str]
    settings: Settings
    token: str
    user_id: int

    async def owner(self) -> asyncpg.Connection:
        """To look at what is stored, and to break what must hold. The caller closes it."""
        return await asyncpg.connect(**asyncpg_arguments(self.settings.migration_database_url or ""))
