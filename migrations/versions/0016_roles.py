"""What the roles of the API, the workers and the readers need beside their grants, which grants.sql makes.

A password's hash is read by a function, for one user. Whoever may not call it, and so signs nobody in, may name a user
in the audit log only as the owner of the export or the schedule that the entry is about."""

from alembic import op

from erp_service.db.migrate import script

revision = "0016"
down_revision = "0009"

STATEMENTS = """
-- Volatile, although it only reads: in an UPDATE that has waited for the user's row, it must see what was committed
-- meanwhile, and a stable function would read the statement's own snapshot.
create function erp_password_hash(user_id bigint) returns text
  language sql volatile strict security definer set search_path = pg_catalog, pg_temp
  as $body$ select password_hash from public.users where id = $1 $body$;
revoke all on function erp_password_hash(bigint) from public;

create function erp_check_person() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $body$
begin
  if new.entity = 'export' then
    perform from public.export_jobs where id = new.entity_id::uuid and user_id = new.user_id;
  elsif new.entity = 'schedule' then
    perform from public.export_schedules where id = new.entity_id::uuid and user_id = new.user_id;
  end if;
  if new.entity not in ('export', 'schedule') or not found then
    raise exception 'the role % names no user but the owner of an export or a schedule', current_user
      using errcode = 'insufficient_privilege';
  end if;
  return new;
end $body$;
create trigger audit_log_check_person before insert on audit_log for each row
  when (new.user_id is not null and not has_function_privilege('public.erp_password_hash(bigint)', 'execute'))
  execute function erp_check_person();
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
