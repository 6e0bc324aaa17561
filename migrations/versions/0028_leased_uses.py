"""Instances lease several uses of a limit at once: how many the last one got."""

from alembic import op

from erp_service.db.migrate import script

revision = "0028"
down_revision = "0027"

STATEMENTS = """
alter table rate_limits add column granted integer not null default 0;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
