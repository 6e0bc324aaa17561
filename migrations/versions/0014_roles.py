"""What the roles of the API, the workers and the readers need beside their grants, which grants.sql makes.

A password's hash is read by a function, for one user. Whoever may not call it, and so signs nobody in, may name a user
in the audit log only as the owner of the export or the schedule that the entry is about, or as who last changed it."""

from alembic import op

from erp_service.db.migrate import script

revision = "0014"
down_revision = "0013"

STATEMENTS = """
-- Volatile, although it only reads: in an UPDATE that has waited for the user's row, it must see what was committed
-- meanwhile, and a stable function would read the statement's own snapshot.
create function erp_password_hash(user_id bigint) returns text
  language sql volatile strict security definer set search_path = pg_catalog, pg_temp
  as $body$ select password_hash from public.users where id = $1 $body$;
revoke all on function erp_password_hash(bigint) from public;

-- Columns are read by name, so that it holds for those that say for whom somebody acts, whichever migration adds them.
create function erp_check_person() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $body$
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
  end if;
  if not coalesce(persons <@ allowed, false) then
    raise exception 'the role % names no user but those whose export or schedule it is', current_user
      using errcode = 'insufficient_privilege';
  end if;
  return new;
end $body$;
create trigger audit_log_check_person before insert on audit_log for each row
  when (not has_function_privilege('public.erp_password_hash(bigint)', 'execute'))
  execute function erp_check_person();
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
