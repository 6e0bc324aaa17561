"""Export jobs with the guard of their states, and the store that the database knows."""

from alembic import op

from erp_service.db.migrate import script

revision = "0004"
down_revision = "0003"

STATEMENTS = """
create table export_jobs (
  id uuid not null,
  user_id bigint not null,
  dataset text not null,
  format text not null,
  compression text not null,
  spec jsonb not null,
  retention_hours integer not null,
  retry_of uuid,
  status text not null default 'queued',
  attempt integer not null default 0,
  queue_job_id bigint,
  version bigint not null default 1,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  expires_at timestamptz,
  deleted_at timestamptz,
  snapshot_at timestamptz,
  rows_done bigint not null default 0,
  bytes_done bigint not null default 0,
  rows_total bigint,
  rows_total_is_estimate boolean not null default false,
  progress_at timestamptz,
  result_rows bigint,
  result_bytes bigint,
  sha256 text,
  media_type text,
  filename text,
  file_key text,
  error jsonb,
  constraint export_jobs_pkey primary key (id),
  constraint export_jobs_queue_job_id_key unique (queue_job_id),
  constraint export_jobs_user_id_fkey foreign key (user_id) references users (id),
  constraint export_jobs_retry_of_fkey foreign key (retry_of) references export_jobs (id),
  constraint export_jobs_status_known check (
    status in ('queued', 'running', 'canceling', 'succeeded', 'failed', 'canceled', 'expired')
  ),
  constraint export_jobs_whole check (
    status <> 'succeeded' or (result_rows is not null and result_bytes is not null and sha256 is not null
      and file_key is not null and media_type is not null and filename is not null
      and expires_at is not null and snapshot_at is not null)
  ),
  constraint export_jobs_sha256_hex check (sha256 ~ '^[0-9a-f]{64}$'),
  constraint export_jobs_error_of_failure check ((status = 'failed') = (error is not null)),
  constraint export_jobs_attempt_not_negative check (attempt >= 0)
);
create index export_jobs_user_id_id_idx on export_jobs (user_id, id);
create index export_jobs_open_idx on export_jobs (user_id, id) where status in ('queued', 'running', 'canceling');
create index export_jobs_expires_at_idx on export_jobs (expires_at) where file_key is not null;

-- The contract's table of states, for whoever writes; and what a published result says never changes.
create function erp_guard_export() returns trigger language plpgsql as $body$
begin
  if tg_op = 'INSERT' then
    if new.status <> 'queued' then
      raise exception 'an export begins queued, not %', new.status
        using errcode = 'check_violation', constraint = 'export_jobs_transition', table = tg_table_name;
    end if;
    return new;
  end if;
  if new.status <> old.status and (old.status, new.status) not in (
    ('queued', 'running'), ('queued', 'canceled'), ('queued', 'failed'),
    ('running', 'succeeded'), ('running', 'failed'), ('running', 'canceling'), ('running', 'queued'),
    ('canceling', 'canceled'),
    ('succeeded', 'expired')
  ) then
    raise exception 'an export that is % cannot become %', old.status, new.status
      using errcode = 'check_violation', constraint = 'export_jobs_transition', table = tg_table_name;
  end if;
  if new.attempt < old.attempt then
    raise exception 'the attempt of an export cannot go back from % to %', old.attempt, new.attempt
      using errcode = 'check_violation', constraint = 'export_jobs_fence', table = tg_table_name;
  end if;
  if old.status in ('succeeded', 'expired')
    and (new.result_rows, new.result_bytes, new.sha256, new.snapshot_at, new.attempt)
      is distinct from (old.result_rows, old.result_bytes, old.sha256, old.snapshot_at, old.attempt) then
    raise exception 'the result of an export does not change once it is published'
      using errcode = 'check_violation', constraint = 'export_jobs_result_kept', table = tg_table_name;
  end if;
  new.version := old.version + 1;
  return new;
end $body$;
create trigger export_jobs_guard before insert or update on export_jobs
  for each row execute function erp_guard_export();

create function erp_tell_export() returns trigger language plpgsql as $body$
begin
  perform pg_notify('erp_exports', new.id::text);
  return null;
end $body$;
create trigger export_jobs_tell after update of status on export_jobs
  for each row when (new.status <> old.status) execute function erp_tell_export();

create table export_store (
  single boolean not null default true,
  database_id uuid not null default gen_random_uuid(),
  store_id uuid,
  claimed_at timestamptz,
  constraint export_store_pkey primary key (single),
  constraint export_store_single_row check (single)
);
insert into export_store default values;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
