"""The percentage that was said of an export, which must not go back, and the rate it goes at."""

from alembic import op

from erp_service.db.migrate import script

revision = "0008"
down_revision = "0007"

STATEMENTS = """
alter table export_jobs
  add column percent double precision not null default 0,
  add column recent_rows double precision not null default 0,
  add column recent_seconds double precision not null default 0;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
