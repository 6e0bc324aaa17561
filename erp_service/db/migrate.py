"""The schema of the database: migrated to what this code needs, and compared with the models."""

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
    """Bring the database to this code's head in one transaction; several at once wait for each other.

    A database that is ahead of this code is not changed."""
    engine = create_async_engine(engine_url(url), poolclass=NullPool, hide_parameters=True)
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
    """A later release migrated the database and was rolled back: Alembic would fail, not knowing that revision."""
    if connection.scalar(text("select to_regclass('alembic_version')")) is None:
        return False
    present = connection.scalar(text("select version_num from alembic_version"))
    return present is not None and present not in revisions.ours().known


def script(connection: Connection, sql: str) -> None:
    """Run many statements at once in the migration's transaction, over the simple protocol, as only the driver can."""
    driver: Any = connection.connection.driver_connection
    await_only(driver.execute(sql))


def compare(connection: Connection) -> None:
    """Raises alembic's CommandError where the migrated tables differ from the models."""
    config = _config()
    config.attributes.update(connection=connection, grants=False)
    command.check(config)
