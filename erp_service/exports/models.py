"""The tables of exports: the jobs, whose rows are the truth about exports, and the store of their files."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.db.base import Base

CHANNEL = "erp_exports"
"""A trigger notifies this channel, with the job's id, when a status changes. The worker notifies it of progress, at
most twice a second."""


class Status(StrEnum):
    """The trigger erp_guard_job enforces which status may follow which, for every kind of job and every writer."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


OPEN = (Status.QUEUED, Status.RUNNING, Status.CANCELING)


class JobColumns:
    """The columns by which a job of any kind is admitted, run, fenced and followed (jobs/kinds.py, jobs/states.py).

    `attempt` is the fence: a run with a smaller one writes nothing here any more. A job is admitted once `queue_job_id`
    is set; until then it waits, and the queue does not know of it."""

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"))
    dataset: Mapped[str] = mapped_column(Text)
    spec: Mapped[dict[str, Any]] = mapped_column(JSONB)
    retention_hours: Mapped[int] = mapped_column(Integer)
    # by an estimate at submission; decides the queue, see admission.py
    is_small: Mapped[bool] = mapped_column(server_default=text("false"))
    status: Mapped[str] = mapped_column(Text, server_default=text("'queued'"))
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    queue_job_id: Mapped[int | None] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column()
    finished_at: Mapped[datetime | None] = mapped_column()
    expires_at: Mapped[datetime | None] = mapped_column()
    deleted_at: Mapped[datetime | None] = mapped_column()
    rows_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    bytes_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    rows_total: Mapped[int | None] = mapped_column(BigInteger)
    rows_total_is_estimate: Mapped[bool] = mapped_column(server_default=text("false"))
    progress_at: Mapped[datetime | None] = mapped_column()
    # of the present attempt: the greatest percentage so far, and the rate, see eta.py
    percent: Mapped[float] = mapped_column(Double, server_default=text("0"))
    recent_rows: Mapped[float] = mapped_column(Double, server_default=text("0"))
    recent_seconds: Mapped[float] = mapped_column(Double, server_default=text("0"))
    result_rows: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    # set while a file of this name may be in the store; null once it has been removed
    file_key: Mapped[str | None] = mapped_column(Text)
    # the `traceparent` (W3C Trace Context) that the run continues; null while tracing is off
    trace: Mapped[str | None] = mapped_column(Text)


class ExportJob(JobColumns, Base):
    """One export."""

    __tablename__ = "export_jobs"
    __table_args__ = (
        UniqueConstraint("queue_job_id"),
        CheckConstraint(
            "status in ('queued', 'running', 'canceling', 'succeeded', 'failed', 'canceled', 'expired')",
            name="status_known",
        ),
        CheckConstraint(
            "status <> 'succeeded' or (result_rows is not null and result_bytes is not null and sha256 is not null"
            " and file_key is not null and media_type is not null and filename is not null"
            " and expires_at is not null and snapshot_at is not null)",
            name="whole",
        ),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256_hex"),
        CheckConstraint("(status = 'failed') = (error is not null)", name="error_of_failure"),
        CheckConstraint("attempt >= 0", name="attempt_not_negative"),
        Index("export_jobs_user_id_id_idx", "user_id", "id"),
        Index("export_jobs_user_id_status_id_idx", "user_id", "status", "id"),
        Index(
            "export_jobs_open_idx",
            "user_id",
            "id",
            postgresql_where=text("status in ('queued', 'running', 'canceling')"),
        ),
        Index(
            "export_jobs_kept_idx",
            "user_id",
            "expires_at",
            postgresql_where=text("status = 'succeeded'"),
        ),
        Index("export_jobs_expires_at_idx", "expires_at", postgresql_where=text("file_key is not null")),
    )

    format: Mapped[str] = mapped_column(Text)
    compression: Mapped[str] = mapped_column(Text)
    retry_of: Mapped[UUID | None] = mapped_column(ForeignKey("export_jobs.id"))
    snapshot_at: Mapped[datetime | None] = mapped_column()
    result_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(Text)
    media_type: Mapped[str | None] = mapped_column(Text)
    filename: Mapped[str | None] = mapped_column(Text)


class ExportUsage(Base):
    """The bytes of the files that a user keeps: of the exports that are `succeeded`. A trigger keeps the count, so that
    it costs the same however many files there are."""

    __tablename__ = "export_usage"

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)


class ExportStore(Base):
    """One row. Store and database identify each other: `<database_id>/<store_id>` is written into both, once."""

    __tablename__ = "export_store"
    __table_args__ = (CheckConstraint("single", name="single_row"),)

    single: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    database_id: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    store_id: Mapped[UUID | None] = mapped_column()
    claimed_at: Mapped[datetime | None] = mapped_column()


class DatabaseFile(Base):
    """A file of the store `postgres:`. Readers see only a file that is `whole`; only one that is `writing` can grow."""

    __tablename__ = "export_files"
    __table_args__ = (
        CheckConstraint("state in ('writing', 'whole', 'deleting')", name="state_known"),
        CheckConstraint("state <> 'whole' or bytes is not null", name="size_of_whole"),
    )

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    state: Mapped[str] = mapped_column(Text, server_default=text("'writing'"))
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    written_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DatabaseFileChunk(Base):
    """A piece of a file. All but the last have the same size, see storage/postgres.py."""

    __tablename__ = "export_chunks"

    name: Mapped[str] = mapped_column(Text, ForeignKey("export_files.name"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


errors.constraint("export_jobs_transition", lambda: errors.Conflict("The export has just changed. Read it again."))
