"""Reads of the health routes."""

from typing import NamedTuple

from sqlalchemy import text

from erp_service.db.sessions import ReadSession


class DatabaseState(NamedTuple):
    """`migration` is the revision of the schema."""

    server_version: str
    in_recovery: bool
    migration: str


_STATE = text("""
    select current_setting('server_version'), pg_is_in_recovery(), (select version_num from alembic_version)
""")


async def database_state(db: ReadSession) -> DatabaseState:
    return DatabaseState(*(await db.execute(_STATE)).one())
