"""Second factors. Whether a user has one is in `users.second_factor_since`, under whose row lock all of this
changes."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from erp_service.db.base import Base


class SecondFactor(Base):
    """The secret that is in force, and one that takes its place once a code of it is shown; either may be missing.

    Both are encrypted (encryption.py). `last_step` is the time step, of 30 s since 1970, of the code that was used
    last: no code of it or of an earlier one is taken again."""

    __tablename__ = "second_factors"
    __table_args__ = (CheckConstraint("(pending_secret is null) = (pending_since is null)", name="pending_some_time"),)

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"), primary_key=True)
    secret: Mapped[str | None] = mapped_column(Text)
    pending_secret: Mapped[str | None] = mapped_column(Text)
    pending_since: Mapped[datetime | None] = mapped_column()
    last_step: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class RecoveryCode(Base):
    """A code that is not used yet, each in place of the device once. Only its digest is stored."""

    __tablename__ = "recovery_codes"

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
