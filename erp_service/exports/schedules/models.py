"""The table of schedules: exports that are submitted at given times, as their owner."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.db.base import Base


class ExportSchedule(Base):
    """`changed_by` is who last changed it if that was not its owner in person. Then it runs with `most_role` at most,
    the role that they, or the API key that they used, had at that time.

    `next_run_at` is the time of the next run, or of the one that is due. If that run could not be submitted yet,
    `again_at` is the time of the next try."""

    __tablename__ = "export_schedules"
    __table_args__ = (
        CheckConstraint("is_active = (next_run_at is not null)", name="next_run_of_active"),
        CheckConstraint("most_role in ('VIEWER', 'STAFF', 'ADMIN', 'SUPER_ADMIN')", name="most_role_known"),
        CheckConstraint("(changed_by is null) = (most_role is null)", name="changed_by_another"),
        Index("export_schedules_user_id_id_idx", "user_id", "id"),
        Index("export_schedules_due_idx", "next_run_at", postgresql_where=text("is_active")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"))
    cron: Mapped[str] = mapped_column(Text)
    timezone: Mapped[str] = mapped_column(Text)
    spec: Mapped[dict[str, Any]] = mapped_column(JSONB)
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    next_run_at: Mapped[datetime | None] = mapped_column()
    again_at: Mapped[datetime | None] = mapped_column()
    last_run_at: Mapped[datetime | None] = mapped_column()
    last_export_id: Mapped[UUID | None] = mapped_column(ForeignKey("export_jobs.id"))
    last_error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_by: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))
    most_role: Mapped[str | None] = mapped_column(Text)


class TooManySchedules(errors.Conflict):
    """You have as many schedules as one user may have. Delete one that you no longer need."""

    slug, title = "too-many-schedules", "You have too many schedules"
