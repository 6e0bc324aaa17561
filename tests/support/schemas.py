"""Databases with the schema of an earlier version."""

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from erp_service.db import migrate as schema


async def migrate_to_before(url: str, revision: str) -> None:
    """Migrate an empty database up to the revision before this one."""

    def upgrade(connection: Connection) -> None:
        config = schema._config()
        config.attributes["connection"] = connection
        script = ScriptDirectory.from_config(config).get_revision(revision)
        assert script is not None
        assert isinstance(script.down_revision, str)
        command.upgrade(config, script.down_revision)

    engine = schema.engine_of(url)
    async with engine.connect() as connection:
        await connection.run_sync(upgrade)
        await connection.commit()
    await engine.dispose()
