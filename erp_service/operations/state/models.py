"""The last runs of `erp verify` and of the backups."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Integer, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from erp_service.db.base import Base


class OperationRun(Base):
    """The last run of a kind that succeeded, or the last that failed. ops/backups/record.py writes it too."""

    __tablename__ = "operation_runs"
    __table_args__ = (CheckConstraint("kind in ('dump', 'base', 'verify')", name="operation_runs_kind"),)

    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    ok: Mapped[bool] = mapped_column(primary_key=True)
    ended_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    seconds: Mapped[float] = mapped_column()
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Of a backup."""
    place: Mapped[str | None] = mapped_column(Text)
    """Where a backup is, for people: the host and the directory."""
    proofs: Mapped[int | None] = mapped_column(Integer)
    failed_proofs: Mapped[int | None] = mapped_column(Integer)
