"""Imports as a kind of job: see exports/jobs/kinds.py. Their queues are their own: a worker of an earlier version,
which knows no imports, fetches from none of them."""

from erp_service.exports.jobs.kinds import JobKind
from erp_service.imports.jobs.problems import ImportAbandoned
from erp_service.imports.models import CHANNEL, ImportJob
from erp_service.registry.queues import QueueShare

IMPORTS = JobKind(
    name="import",
    table=ImportJob,
    relation="import_jobs",
    channel=CHANNEL,
    task="imports:run",
    queue="imports",
    small_queue="imports-small",
    abandoned=ImportAbandoned,
    most_running=lambda settings: settings.imports_running_per_user,
)

SMALL = 256 * 1024
"""Bytes of a file up to which it passes the large ones."""

# one large one in a worker: it keeps a core busy, and has its file on the worker's disk
QUEUES = (QueueShare(IMPORTS.queue, most=1), QueueShare(IMPORTS.small_queue, most=2))
PREFIX = "import."
"""Of the names of files in the store, see FileKey."""
