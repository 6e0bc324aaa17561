"""What a worker names in the audit log: also while a cancel is on its way, and an API key only as that of an import."""

from alembic import op

from erp_service.db.migrate import script

revision = "0029"
down_revision = "0028"

STATEMENTS = """
-- As before (0026), with two differences. An import that is being canceled writes until its worker learns of it, and
-- must not fail by that. An API key is named as a person is: as that by which an import that runs was submitted.
create or replace function erp_check_person() returns trigger language plpgsql set search_path = pg_catalog, pg_temp
as $body$
declare
  persons bigint[] := array_remove(array[new.user_id, (to_jsonb(new) ->> 'on_behalf_of')::bigint], null);
  allowed bigint[];
begin
  if new.api_key_id is not null and not exists (
    select from public.import_jobs job
    where job.status in ('running', 'canceling') and job.api_key_id = new.api_key_id
  ) then
    raise exception 'the role % names no API key but that of an import that runs', current_user
      using errcode = 'insufficient_privilege';
  end if;
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
    select array_agg(distinct job.user_id) into allowed from public.import_jobs job
    where job.status in ('running', 'canceling');
  elsif new.entity = 'stock' then
    select array_agg(distinct job.user_id) into allowed from public.import_jobs job
    where job.status in ('running', 'canceling') and job.spec ? 'undo_of';
  end if;
  if not coalesce(persons <@ allowed, false) then
    raise exception 'the role % names no user but those whose export, import or schedule it is', current_user
      using errcode = 'insufficient_privilege';
  end if;
  return new;
end $body$;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
