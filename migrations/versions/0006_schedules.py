"""Schedules of exports, and which exports were thought to be small when they were submitted."""

from alembic import op

from erp_service.db.migrate import script

revision = "0006"
down_revision = "0005"

STATEMENTS = """
create table export_schedules (
  id uuid not null,
  user_id bigint not null,
  cron text not null,
  timezone text not null,
  spec jsonb not null,
  is_active boolean not null default true,
  next_run_at timestamptz,
  again_at timestamptz,
  last_run_at timestamptz,
  last_export_id uuid,
  last_error jsonb,
  version bigint not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint export_schedules_pkey primary key (id),
  constraint export_schedules_user_id_fkey foreign key (user_id) references users (id),
  constraint export_schedules_last_export_id_fkey foreign key (last_export_id) references export_jobs (id),
  constraint export_schedules_next_run_of_active check (is_active = (next_run_at is not null))
);
create index export_schedules_user_id_id_idx on export_schedules (user_id, id);
create index export_schedules_due_idx on export_schedules (next_run_at) where is_active;

alter table export_jobs add column is_small boolean not null default false;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
