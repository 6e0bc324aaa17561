"""Tells every instance when the company's settings have changed."""

from alembic import op

from erp_service.db.migrate import script

revision = "0027"
down_revision = "0026"

STATEMENTS = """
create function erp_notify_settings() returns trigger language plpgsql as $body$
begin
  perform pg_notify('erp_settings', new.version::text);
  return null;
end $body$;
create trigger company_notify after update on company for each row execute function erp_notify_settings();
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
