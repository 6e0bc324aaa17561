"""Procrastinate's schema, as released in 3.10 (its last change is 03.04.00_50)."""

from pathlib import Path

from alembic import op

from erp_service.db.migrate import script

revision = "0001"
down_revision = None


def upgrade() -> None:
    # A copy, not SchemaManager.get_schema(): what was migrated once must not change with an installed version.
    script(op.get_bind(), Path(__file__).parent.with_name("procrastinate_3_10.sql").read_text())
    script(op.get_bind(), Path(__file__).parent.with_name("queue.sql").read_text())
