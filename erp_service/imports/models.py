"""Imported files, and the jobs that import them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.db.base import Base
from erp_service.exports.models import JobColumns

CHANNEL = "erp_imports"
"""A trigger notifies this channel, with the job's id, when a status changes; the worker notifies it of progress."""


_COUNTS = text("undone_at is null and mode = 'create'")


class Import(Base):
    """A file that was imported. The digests of those that only create are unique, so that the same content is not
    imported twice; one that was undone counts no more."""

    __tablename__ = "imports"
    __table_args__ = (
        Index("imports_kind_sha256_key", "kind", "sha256", unique=True, postgresql_where=_COUNTS),
        Index("imports_kind_content_sha256_key", "kind", "content_sha256", unique=True, postgresql_where=_COUNTS),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(Text)
    content_sha256: Mapped[str | None] = mapped_column(Text)
    """Of the rows, whatever the bytes; null for what earlier versions imported."""
    filename: Mapped[str] = mapped_column(Text)
    row_count: Mapped[int] = mapped_column(BigInteger)
    imported_at: Mapped[datetime] = mapped_column(server_default=func.now())
    mode: Mapped[str] = mapped_column(Text, server_default=text("'create'"))
    undone_at: Mapped[datetime | None] = mapped_column()
    undone_by: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))
    """Null also for an undo from the command line, whose entry in the audit log names who ran it."""


class ImportJob(JobColumns, Base):
    """One file to import, or one import to undo. `file_key` names the file as it was received, `report_key` the report
    of bad lines of its last attempt."""

    __tablename__ = "import_jobs"
    __table_args__ = (
        UniqueConstraint("queue_job_id"),
        CheckConstraint(
            "status in ('queued', 'running', 'canceling', 'succeeded', 'failed', 'canceled', 'expired')",
            name="status_known",
        ),
        CheckConstraint(
            "status <> 'succeeded' or (result_rows is not null and result is not null)",
            name="whole",
        ),
        CheckConstraint("(status = 'failed') = (error is not null)", name="error_of_failure"),
        CheckConstraint("attempt >= 0", name="attempt_not_negative"),
        Index("import_jobs_user_id_id_idx", "user_id", "id"),
        Index("import_jobs_user_id_status_id_idx", "user_id", "status", "id"),
        Index(
            "import_jobs_open_idx",
            "user_id",
            "id",
            postgresql_where=text("status in ('queued', 'running', 'canceling')"),
        ),
        Index(
            "import_jobs_kept_idx",
            "user_id",
            "expires_at",
            postgresql_where=text("file_key is not null or report_key is not null"),
        ),
    )

    # by which key it was submitted, and the role that the submission had: it may do no more later
    api_key_id: Mapped[int | None] = mapped_column(BigInteger)
    most_role: Mapped[str] = mapped_column(Text)
    filename: Mapped[str] = mapped_column(Text)
    # as it was received
    file_bytes: Mapped[int] = mapped_column(BigInteger)
    file_sha256: Mapped[str | None] = mapped_column(Text)
    phase: Mapped[str | None] = mapped_column(Text)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    # the import that was made, or undone
    import_id: Mapped[int | None] = mapped_column(ForeignKey("imports.id"))
    # the first thousand bad lines
    faults: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    report_key: Mapped[str | None] = mapped_column(Text)
    report_bytes: Mapped[int | None] = mapped_column(BigInteger)


errors.constraint("import_jobs_transition", lambda: errors.Conflict("The import has just changed. Read it again."))
