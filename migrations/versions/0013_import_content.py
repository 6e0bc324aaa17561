"""The digest of an imported file's rows, by which a file that was saved again is known again."""

from alembic import op

from erp_service.db.migrate import script

revision = "0013"
down_revision = "0012"

STATEMENTS = """
alter table imports add column content_sha256 text;
alter table imports add unique (kind, content_sha256);
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
