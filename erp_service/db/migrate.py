"""The schema of the database: brought to what this code needs, and compared with it."""

from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from erp_service.db import revisions
from erp_service.db.connections import engine_url


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(revisions.DIRECTORY))
    config.set_main_option("path_separator", "os")
    return config


async def migrate(url: str) -> None:
    """Bring the database to this code's head, all of it or nothing; several at once wait for each other.

    A database that is ahead of this code stays as it is."""
    engine = create_async_engine(engine_url(url), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
            await connection.commit()
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    if _is_ahead(connection):
        return
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_ahead(connection: Connection) -> bool:
    """A later release has expanded the schema, and this one was rolled back: Alembic would not know where it is."""
    if connection.scalar(text("select to_regclass('alembic_version')")) is None:
        return False
    present = connection.scalar(text("select version_num from alembic_version"))
    return present is not None and present not in revisions.ours().known


def script(connection: Connection, sql: str) -> None:
    """Many statements at once, in the migration's transaction: only the driver's simple protocol takes them."""
    driver: Any = connection.connection.driver_connection
    await_only(driver.execute(sql))


def compare(connection: Connection) -> None:
    """Raises alembic's CommandError where models and migrated tables differ."""
    config = _config()
    config.attributes.update(connection=connection, grants=False)
    command.check(config)
