"""The trail: every entry of the audit log, and every row of the append-only tables that features register, once it is
committed, with a position and a link of a chain of hashes."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, SmallInteger, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, Range
from sqlalchemy.orm import Mapped, mapped_column

from erp_service.db.base import Base

CHANNEL = "erp_trail"
"""The channel of notifications of new positions. The payload is the last one, and the types of the events among
them, apart by blanks; ANY_TYPE if there are too many types."""

ANY_TYPE = "*"


class TrailEntry(Base):
    """Ids are given before a commit, so neither they nor transaction ids say in which order entries became visible. A
    position is given after it, by one writer: whoever has read up to one misses nothing that comes later.

    A position covers one audit entry, `audit_id`, or the rows `row_ids` of the table `source`. `through`: with the
    positions that were written together with this one, every id of `source` up to it is covered, or was rolled back.
    `digest` is that of what is covered, and stays when audit entries are removed; `form` says how they were written as
    bytes (sealing/forms.py). `link` is the SHA-256 of the link before it and of all this (sealing/chain.py)."""

    __tablename__ = "trail"
    __table_args__ = (
        UniqueConstraint("audit_id"),
        CheckConstraint("(audit_id is null) <> (row_ids is null)", name="one_kind"),
        CheckConstraint("octet_length(link) = 32 and octet_length(digest) = 32", name="lengths"),
        Index("trail_source_position_idx", "source", "position", postgresql_where=text("audit_id is null")),
        Index("trail_source_upper_idx", "source", text("upper(row_ids)"), postgresql_where=text("audit_id is null")),
    )

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    audit_id: Mapped[int | None] = mapped_column(BigInteger)
    link: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_at: Mapped[datetime] = mapped_column()
    source: Mapped[str] = mapped_column(Text)
    row_ids: Mapped[list[Range[int]] | None] = mapped_column(INT8MULTIRANGE)
    through: Mapped[int] = mapped_column(BigInteger)
    form: Mapped[int] = mapped_column(SmallInteger)
