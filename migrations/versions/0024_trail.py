"""The trail seals rows of other append-only tables beside audit entries: its columns say which, and in which form."""

from alembic import op

from erp_service.db.migrate import script

revision = "0024"
down_revision = "0021"

STATEMENTS = """
-- no version before this one writes to the trail, so it is empty
alter table trail
  alter column audit_id drop not null,
  -- the sealer states the time, since the link covers it
  alter column sealed_at drop default,
  add column digest bytea not null,
  add column source text not null,
  add column row_ids int8multirange,
  add column through bigint not null,
  add column form smallint not null,
  add constraint trail_one_kind check ((audit_id is null) <> (row_ids is null)),
  add constraint trail_lengths check (octet_length(link) = 32 and octet_length(digest) = 32);
-- the last position of each source, and the positions that cover rows of it
create index trail_source_position_idx on trail (source, position) where audit_id is null;
create index trail_source_upper_idx on trail (source, upper(row_ids)) where audit_id is null;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
