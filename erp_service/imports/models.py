"""Imported files."""

from datetime import datetime

from sqlalchemy import BigInteger, Identity, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from erp_service.db.base import Base


class Import(Base):
    """A file that was imported. Its digests are unique, so that the same content is not imported twice."""

    __tablename__ = "imports"
    __table_args__ = (UniqueConstraint("kind", "sha256"), UniqueConstraint("kind", "content_sha256"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(Text)
    content_sha256: Mapped[str | None] = mapped_column(Text)
    """Of the rows, whatever the bytes; null for what earlier versions imported."""
    filename: Mapped[str] = mapped_column(Text)
    row_count: Mapped[int] = mapped_column(BigInteger)
    imported_at: Mapped[datetime] = mapped_column(server_default=func.now())
