"""Reads of the health routes."""

from typing import NamedTuple

from sqlalchemy import text

from erp_service.db.notifications import APPLICATION
from erp_service.db.sessions import ReadSession


class DatabaseState(NamedTuple):
    """`migration` is the revision of the schema."""

    server_version: str
    in_recovery: bool
    migration: str


_STATE = text("""
    select current_setting('server_version'), pg_is_in_recovery(), (select version_num from alembic_version)
""")

_INSTANCES = text("""
    select count(*) from pg_stat_activity where application_name = :name and datname = current_database()
""")


async def database_state(db: ReadSession) -> DatabaseState:
    return DatabaseState(*(await db.execute(_STATE)).one())


async def connected_instances(db: ReadSession) -> int:
    """How many instances of the API listen for notifications: each has one connection for that."""
    instances: int = await db.scalar(_INSTANCES, {"name": APPLICATION})
    return instances
