"""Machines as callers: which API key of a user did what. The trail: what happened, in one order that never changes."""

from alembic import op

from erp_service.db.migrate import script

revision = "0021"
down_revision = "0020"

STATEMENTS = """
-- no foreign key, which every posting would pay for: keys are never deleted
alter table audit_log add column api_key_id bigint;
create index audit_log_api_key_id_idx on audit_log (api_key_id, id) where api_key_id is not null;

-- position: 1, 2, 3 ... in the order in which entries were found to be committed
create table trail (
  position bigint not null,
  audit_id bigint not null,
  link bytea not null,
  sealed_at timestamptz not null default clock_timestamp(),
  constraint trail_pkey primary key (position),
  constraint trail_audit_id_key unique (audit_id)
);
create trigger trail_append_only before update or delete or truncate on trail
  for each statement execute function erp_refuse_change();

alter table company add column settings jsonb not null default '{}';
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
