"""On whose behalf an entry of the audit log was written, and by whom if by no user; who last changed a schedule; and
the bytes of export files that each user keeps."""

from alembic import op

from erp_service.db.migrate import script

revision = "0011"
down_revision = "0010"

STATEMENTS = """
alter table audit_log
  add column on_behalf_of bigint constraint audit_log_on_behalf_of_fkey references users (id),
  add column actor text;
create index audit_log_on_behalf_of_idx on audit_log (on_behalf_of, id) where on_behalf_of is not null;
create index audit_log_actor_idx on audit_log (actor, id) where actor is not null;
alter table export_schedules
  add column changed_by bigint constraint export_schedules_changed_by_fkey references users (id),
  add column most_role text constraint export_schedules_most_role_known
    check (most_role in ('VIEWER', 'STAFF', 'ADMIN', 'SUPER_ADMIN')),
  add constraint export_schedules_changed_by_another check ((changed_by is null) = (most_role is null));
create index export_jobs_kept_idx on export_jobs (user_id, expires_at) where status = 'succeeded';

create table export_usage (
  user_id bigint not null,
  bytes bigint not null,
  constraint export_usage_pkey primary key (user_id),
  constraint export_usage_user_id_fkey foreign key (user_id) references users (id)
);
-- For every writer, also of a version that knows nothing of it. By statement and in order of the users: two that expire
-- many files at once would else wait for each other. As its owner, so that nobody else needs to write the table.
create function erp_count_export_bytes() returns trigger language plpgsql
  security definer set search_path = public, pg_temp as $body$
begin
  insert into export_usage as present (user_id, bytes)
    select later.user_id, sum(case later.status when 'succeeded' then later.result_bytes else -later.result_bytes end)
    from old_rows earlier join new_rows later using (id)
    where earlier.status <> later.status and 'succeeded' in (earlier.status, later.status)
    group by later.user_id order by later.user_id
  on conflict (user_id) do update set bytes = present.bytes + excluded.bytes;
  return null;
end $body$;
create trigger export_jobs_count_bytes after update on export_jobs
  referencing old table as old_rows new table as new_rows
  for each statement execute function erp_count_export_bytes();
insert into export_usage (user_id, bytes)
  select user_id, sum(result_bytes) from export_jobs where status = 'succeeded' group by user_id;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
