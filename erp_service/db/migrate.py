"""The schema of the database: migrated to what this code needs, and compared with the models."""

import asyncio
from time import monotonic
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from erp_service import errors
from erp_service.db import revisions
from erp_service.db.backoff import Backoff
from erp_service.db.connections import connect
from erp_service.db.outages import CONTENTION, DATABASE_ERRORS, sqlstate_of
from erp_service.observability import telemetry

LOCK_SECONDS = 2.0
"""How long a migration waits for one lock. Requests for the tables that it has locked already wait behind it, and fail
after 10 s (engine.py). After one second, Postgres cancels an autovacuum that is in the way."""

RETRY_SECONDS = 600.0
"""How long it is tried again: longer than most exports and imports take."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(revisions.DIRECTORY))
    config.set_main_option("path_separator", "os")
    return config


async def migrate(url: str, *, lock_seconds: float = LOCK_SECONDS, retry_seconds: float = RETRY_SECONDS) -> None:
    """Bring the database to this code's head in one transaction; several at once wait for each other.

    If others, such as an export, hold a lock for longer than `lock_seconds`, all is rolled back and tried again a while
    later, so that the service is not kept waiting. Raises errors.Unavailable when that has lasted `retry_seconds`.

    A database that is ahead of this code is not changed."""
    pauses, deadline = Backoff(1, 15), monotonic() + retry_seconds
    while True:
        try:
            await _migrate_once(url, lock_seconds)
            return
        except DATABASE_ERRORS as exc:
            if sqlstate_of(exc) not in CONTENTION:
                raise
            if monotonic() >= deadline:
                raise errors.Unavailable(
                    f"Nothing was migrated: for {retry_seconds:.0f} s, others have held locks on the tables. Wait for"
                    " exports, imports and backups that run (pg_stat_activity lists them), then migrate again."
                ) from exc
            telemetry.log.warning("others hold locks on the tables, migrating again", error=exc)
        await asyncio.sleep(pauses.next())


def engine_of(url: str) -> AsyncEngine:
    """SQLAlchemy's, which Alembic needs; its connections are opened as all others are."""
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: connect(url, name="erp migrate"),
        poolclass=NullPool,
        hide_parameters=True,
    )


async def _migrate_once(url: str, lock_seconds: float) -> None:
    engine = engine_of(url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, lock_seconds)
            await connection.commit()
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, lock_seconds: float) -> None:
    if _is_ahead(connection):
        return
    config = _config()
    config.attributes.update(connection=connection, lock_seconds=lock_seconds)
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
