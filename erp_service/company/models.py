"""The company: one row."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from erp_service.db.base import Base


class Company(Base):
    """`timezone` is where its days begin and end. Nothing is posted any more to the days up to `closed_through`,
    which were closed at `closed_at`."""

    __tablename__ = "company"
    __table_args__ = (
        CheckConstraint("id = 1", name="one_row"),
        CheckConstraint("closed_through < 'infinity'", name="closed_before_now"),
        CheckConstraint("(closed_through is null) = (closed_at is null)", name="closed_at_some_time"),
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, server_default=text("1"))
    timezone: Mapped[str] = mapped_column(Text, server_default=text("'UTC'"))
    closed_through: Mapped[date | None] = mapped_column()
    closed_at: Mapped[datetime | None] = mapped_column()
    # settings.CompanySettings, as far as they differ from their defaults
    settings: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
