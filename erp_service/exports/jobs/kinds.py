"""What distinguishes the kinds of jobs that share the machinery of exports: admission, fence, rescue, cancel, progress.

A kind is a table with the columns of models.JobColumns and the triggers of migration 0026, a task, and words. So that
old workers of a rolling release never get a job of a kind that they do not know, each kind has queues of its own."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from erp_service.company.settings import CompanySettings
from erp_service.errors import Refused
from erp_service.exports.models import CHANNEL, ExportJob, JobColumns
from erp_service.exports.problems import ExportAbandoned


class JobKind(Struct, frozen=True):
    name: Literal["export", "import"]
    """The entity of its entries in the audit log, and `<name>_id` is the argument of its task."""
    table: type[JobColumns]
    relation: str
    """The table's name, for SQL."""
    channel: str
    """Notified with the id of a job that has changed."""
    task: str
    queue: str
    small_queue: str
    abandoned: Callable[[], Refused]
    """The problem of a job that the queue has given up."""
    most_running: Callable[[CompanySettings], int]
    """How many jobs of one user are in the queue at once."""


EXPORTS = JobKind(
    name="export",
    table=ExportJob,
    relation="export_jobs",
    channel=CHANNEL,
    task="exports:run",
    queue="exports",
    small_queue="exports-small",
    abandoned=ExportAbandoned,
    most_running=lambda settings: settings.exports_running_per_user,
)
