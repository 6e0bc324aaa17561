"""Recorded answers are compressed by lz4 where the server has it.

An answer with 1,000 lines is half a megabyte, which pglz took 9 ms to compress. Only new records are
compressed so: nothing is rewritten."""

from alembic import op

from erp_service.db.migrate import script

revision = "0016"
down_revision = "0015"

STATEMENTS = """
do $body$
begin
  if 'lz4' = any (select unnest(enumvals) from pg_settings where name = 'default_toast_compression') then
    alter table idempotency alter column body set compression lz4;
  end if;
end $body$;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
