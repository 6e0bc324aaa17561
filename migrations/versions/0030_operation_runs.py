"""What `erp verify` and the backups leave about their last runs, for operators."""

from alembic import op

from erp_service.db.migrate import script

revision = "0030"
down_revision = "0029"

STATEMENTS = """
-- One row for the last run of a kind that succeeded, and one for the last that failed, so it never grows. Written by
-- `erp verify` and by ops/backup, each over a connection of its own, and read by the API.
create table operation_runs (
  kind text not null,
  ok boolean not null,
  ended_at timestamptz not null default clock_timestamp(),
  seconds double precision not null,
  bytes bigint,
  place text,
  proofs integer,
  failed_proofs integer,
  constraint operation_runs_pkey primary key (kind, ok),
  constraint operation_runs_kind check (kind in ('dump', 'base', 'verify'))
);
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
