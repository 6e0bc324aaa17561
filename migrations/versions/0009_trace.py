"""The trace that an export's submission belongs to, so that its run goes on with it."""

from alembic import op

from erp_service.db.migrate import script

revision = "0009"
down_revision = "0008"

STATEMENTS = """
alter table export_jobs add column trace text;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
