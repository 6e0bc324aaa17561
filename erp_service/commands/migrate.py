"""`erp migrate`: the database, as this version needs it."""

import asyncio

import click

from erp_service import schema, settings
from erp_service.commands.database import WAIT_SECONDS, told
from erp_service.connections import wait_until_up
from erp_service.terminal import say


@click.command("migrate")
def command() -> None:
    """Bring the database to what this version needs; does nothing if it is there already.

    Uses ERP_MIGRATION_DATABASE_URL, the owner's address, or else ERP_DATABASE_URL.
    """
    with told():
        loaded = settings.load()
        url = loaded.migration_database_url or loaded.listen_url
        asyncio.run(_migrate(url))
        say("The database is up to date.")


async def _migrate(url: str) -> None:
    await wait_until_up(url, seconds=WAIT_SECONDS)
    await schema.migrate(url)
