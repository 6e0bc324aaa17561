"""On whose behalf an entry of the audit log was written, and by whom if by no user; who last changed a schedule; and an
index for the bytes that each user keeps."""

from alembic import op

from erp_service.db.migrate import script

revision = "0011"
down_revision = "0009"

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
create index export_jobs_kept_idx on export_jobs (user_id) include (expires_at, result_bytes)
  where status = 'succeeded';
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
