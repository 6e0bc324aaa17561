"""Imports over HTTP: their jobs, with the guard of states that exports have; which documents an import made, and its
undo."""

from alembic import op

from erp_service.db.migrate import script

revision = "0026"
down_revision = "0025"

STATEMENTS = """
create table import_jobs (
  id uuid not null,
  user_id bigint not null,
  dataset text not null,
  spec jsonb not null,
  retention_hours integer not null,
  is_small boolean not null default false,
  status text not null default 'queued',
  attempt integer not null default 0,
  queue_job_id bigint,
  version bigint not null default 1,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  expires_at timestamptz,
  deleted_at timestamptz,
  rows_done bigint not null default 0,
  bytes_done bigint not null default 0,
  rows_total bigint,
  rows_total_is_estimate boolean not null default false,
  progress_at timestamptz,
  percent double precision not null default 0,
  recent_rows double precision not null default 0,
  recent_seconds double precision not null default 0,
  result_rows bigint,
  error jsonb,
  file_key text,
  trace text,
  api_key_id bigint,
  most_role text not null,
  filename text not null,
  file_bytes bigint not null,
  file_sha256 text,
  phase text,
  result jsonb,
  import_id bigint,
  faults jsonb,
  report_key text,
  report_bytes bigint,
  constraint import_jobs_pkey primary key (id),
  constraint import_jobs_queue_job_id_key unique (queue_job_id),
  constraint import_jobs_user_id_fkey foreign key (user_id) references users (id),
  constraint import_jobs_import_id_fkey foreign key (import_id) references imports (id),
  constraint import_jobs_status_known check (
    status in ('queued', 'running', 'canceling', 'succeeded', 'failed', 'canceled', 'expired')
  ),
  constraint import_jobs_whole check (status <> 'succeeded' or (result_rows is not null and result is not null)),
  constraint import_jobs_error_of_failure check ((status = 'failed') = (error is not null)),
  constraint import_jobs_attempt_not_negative check (attempt >= 0)
);
create index import_jobs_user_id_id_idx on import_jobs (user_id, id);
create index import_jobs_user_id_status_id_idx on import_jobs (user_id, status, id);
create index import_jobs_open_idx on import_jobs (user_id, id) where status in ('queued', 'running', 'canceling');
create index import_jobs_kept_idx on import_jobs (user_id, expires_at)
  where file_key is not null or report_key is not null;

-- One guard for every kind of job: the contract's table of states, for whoever writes; and what a job's result says
-- never changes. Its arguments are the columns of the result.
create function erp_guard_job() returns trigger language plpgsql as $body$
begin
  if tg_op = 'INSERT' then
    if new.status <> 'queued' then
      raise exception 'a job begins queued, not %', new.status
        using errcode = 'check_violation', constraint = tg_table_name || '_transition', table = tg_table_name;
    end if;
    return new;
  end if;
  if new.status <> old.status and (old.status, new.status) not in (
    ('queued', 'running'), ('queued', 'canceled'), ('queued', 'failed'),
    ('running', 'succeeded'), ('running', 'failed'), ('running', 'canceling'), ('running', 'queued'),
    ('canceling', 'canceled'),
    ('succeeded', 'expired')
  ) then
    raise exception 'a job that is % cannot become %', old.status, new.status
      using errcode = 'check_violation', constraint = tg_table_name || '_transition', table = tg_table_name;
  end if;
  if new.attempt < old.attempt then
    raise exception 'the attempt of a job cannot go back from % to %', old.attempt, new.attempt
      using errcode = 'check_violation', constraint = tg_table_name || '_fence', table = tg_table_name;
  end if;
  if old.status in ('succeeded', 'expired') and (
    new.attempt <> old.attempt
    or exists (select from unnest(tg_argv) kept where to_jsonb(new) -> kept is distinct from to_jsonb(old) -> kept)
  ) then
    raise exception 'the result of a job does not change once it is there'
      using errcode = 'check_violation', constraint = tg_table_name || '_result_kept', table = tg_table_name;
  end if;
  new.version := old.version + 1;
  return new;
end $body$;
create trigger import_jobs_guard before insert or update on import_jobs
  for each row execute function erp_guard_job('result_rows', 'result', 'import_id');
create or replace trigger export_jobs_guard before insert or update on export_jobs
  for each row execute function erp_guard_job('result_rows', 'result_bytes', 'sha256', 'snapshot_at');
drop function erp_guard_export();

create function erp_tell_import() returns trigger language plpgsql as $body$
begin
  perform pg_notify('erp_imports', new.id::text);
  return null;
end $body$;
create trigger import_jobs_tell after update of status on import_jobs
  for each row when (new.status <> old.status) execute function erp_tell_import();

-- The worker names the owner of an import job in what it records of the job, of what a running one imports, and of the
-- documents that a running undo reverses.
create or replace function erp_check_person() returns trigger language plpgsql set search_path = pg_catalog, pg_temp
as $body$
declare
  persons bigint[] := array_remove(array[new.user_id, (to_jsonb(new) ->> 'on_behalf_of')::bigint], null);
  allowed bigint[];
begin
  if persons = '{}' then
    return new;
  end if;
  if new.entity = 'export' then
    select array_agg(person) into allowed from public.export_jobs job, lateral (
      select job.user_id as person
      union all
      select (to_jsonb(schedule) ->> 'changed_by')::bigint from public.export_schedules schedule
      where schedule.user_id = job.user_id
    ) persons_of where job.id = new.entity_id::uuid;
  elsif new.entity = 'schedule' then
    select array[schedule.user_id, (to_jsonb(schedule) ->> 'changed_by')::bigint] into allowed
    from public.export_schedules schedule where schedule.id = new.entity_id::uuid;
  elsif new.entity = 'import' and new.entity_id !~ '^[0-9]+$' then
    select array[job.user_id] into allowed from public.import_jobs job where job.id = new.entity_id::uuid;
  elsif new.entity in ('import', 'item', 'location') then
    select array_agg(distinct job.user_id) into allowed from public.import_jobs job where job.status = 'running';
  elsif new.entity = 'stock' then
    select array_agg(distinct job.user_id) into allowed from public.import_jobs job
    where job.status = 'running' and job.spec ? 'undo_of';
  end if;
  if not coalesce(persons <@ allowed, false) then
    raise exception 'the role % names no user but those whose export, import or schedule it is', current_user
      using errcode = 'insufficient_privilege';
  end if;
  return new;
end $body$;

-- no foreign key, which every posting would pay for: imports are never deleted
alter table stock_transactions add column import_id bigint;
create index stock_transactions_import_id_idx on stock_transactions (import_id) where import_id is not null;

-- what was undone may be imported again; and what only updates, which changes nothing if nothing is new
alter table imports add column mode text not null default 'create';
alter table imports add column undone_at timestamptz;
alter table imports add column undone_by bigint;
alter table imports add constraint imports_undone_by_fkey foreign key (undone_by) references users (id);
alter table imports drop constraint imports_kind_sha256_key;
alter table imports drop constraint imports_kind_content_sha256_key;
create unique index imports_kind_sha256_key on imports (kind, sha256) where undone_at is null and mode = 'create';
create unique index imports_kind_content_sha256_key on imports (kind, content_sha256)
  where undone_at is null and mode = 'create';
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
