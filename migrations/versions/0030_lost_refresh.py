"""With which key a refresh token was used, so that whoever lost the answer can ask for it again."""

from alembic import op

from erp_service.db.migrate import script

revision = "0030"
down_revision = "0029"

STATEMENTS = """
alter table refresh_tokens add used_with bytea;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
