"""What deleting a worker's row, and pruning the queue, needs in order to cost the same however long the history."""

from alembic import op

from erp_service.db.migrate import script

revision = "0005"
down_revision = "0004"

STATEMENTS = """
-- The foreign key sets worker_id null when a worker's row goes, and reads the whole table for it: upstream's own index
-- holds only what is being done (issue #1454).
create index procrastinate_jobs_worker_id_idx on procrastinate_jobs (worker_id) where worker_id is not null;
-- When a job ended stands in its events alone.
create index procrastinate_events_ended_idx on procrastinate_events (type, at)
  where type in ('succeeded', 'failed', 'cancelled', 'aborted');
-- The few that failed, out of the many that did not.
create index export_jobs_user_id_status_id_idx on export_jobs (user_id, status, id);
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
