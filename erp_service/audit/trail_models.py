"""The trail: every entry of the audit log, once it is committed, with a position and a link of a chain of hashes."""

from datetime import datetime

from sqlalchemy import BigInteger, LargeBinary, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from erp_service.db.base import Base


class TrailEntry(Base):
    """Ids are given before a commit, so neither they nor transaction ids say in which order entries became visible. A
    position is given after it, by one writer: whoever has read up to one misses nothing that comes later.

    `link` is the SHA-256 of the link before it and of the entry, with what belongs to it."""

    __tablename__ = "trail"
    __table_args__ = (UniqueConstraint("audit_id"),)

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    audit_id: Mapped[int] = mapped_column(BigInteger)
    link: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
