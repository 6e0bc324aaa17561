"""`erp migrate`: brings the database to the schema of this version."""

import asyncio

import click

from erp_service.access.principals import command as by_command
from erp_service.commands.database import WAIT_SECONDS, exit_on_error, open_database, wait_for_database
from erp_service.commands.terminal import say
from erp_service.company.environment import take_over
from erp_service.db import migrate
from erp_service.db.connections import connect
from erp_service.inventory import look_alikes
from erp_service.inventory.look_alikes import LookAlike
from erp_service.settings import Settings, load


@click.command("migrate")
def command() -> None:
    """Bring the database to the schema of this version; does nothing if it has that already.

    Lists skus and codes that look like others, from before such were refused, and what to do about them. Settings that
    were variables ERP_... in an earlier version, such as ERP_CURRENCY, it takes over into the database.

    Uses ERP_MIGRATION_DATABASE_URL, the address of the database's owner, or else ERP_DATABASE_URL. All of it happens in
    one transaction: what fails or is interrupted has changed nothing. While others, such as exports, hold locks on the
    tables, it is rolled back and tried again, for ten minutes at most.

    \b
    Exit status:
      0    the database is up to date
      1    the database cannot be used, its user may not change its
           schema, or others hold locks on the tables
      130  interrupted
    """
    with exit_on_error():
        settings = load()
        url = settings.migration_database_url or settings.listen_url
        for line in look_alikes.report(asyncio.run(_migrate(url))):
            say(line)
        for line in asyncio.run(_take_over(url)):
            say(line)
        say("The database is up to date.")


async def _migrate(url: str) -> list[LookAlike]:
    """The skus and codes that people have to tell apart. They do not keep the service from running."""
    await wait_for_database(url, seconds=WAIT_SECONDS)
    await migrate.migrate(url)
    db = await connect(url, name="erp migrate", statement_timeout="0")
    try:
        return await look_alikes.find(db)
    finally:
        await db.close()


async def _take_over(url: str) -> list[str]:
    async with open_database(Settings(database_url=url), "erp migrate") as database, database.write() as db:
        return await take_over(db, by_command("erp migrate"))
