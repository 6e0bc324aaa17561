"""`erp migrate`: the database, as this version needs it."""

import asyncio

import click

from erp_service import settings
from erp_service.commands.database import WAIT_SECONDS, exit_on_error
from erp_service.commands.terminal import say
from erp_service.db import migrate as schema
from erp_service.db.connections import wait_until_up


@click.command("migrate")
def command() -> None:
    """Bring the database to what this version needs; does nothing if it is there already.

    Uses ERP_MIGRATION_DATABASE_URL, the owner's address, or else ERP_DATABASE_URL.
    """
    with exit_on_error():
        loaded = settings.load()
        url = loaded.migration_database_url or loaded.listen_url
        asyncio.run(_migrate(url))
        say("The database is up to date.")


async def _migrate(url: str) -> None:
    await wait_until_up(url, seconds=WAIT_SECONDS)
    await schema.migrate(url)
