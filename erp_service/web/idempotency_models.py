"""Recorded answers of requests with an Idempotency-Key: idempotency.py sends them again, housekeeping removes them."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from erp_service.db.base import Base
from erp_service.registry.housekeeping import Pruning

KEPT_HOURS = 24


class IdempotencyRecord(Base):
    __tablename__ = "idempotency"

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int] = mapped_column(SmallInteger)
    headers: Mapped[dict[str, str]] = mapped_column(JSONB)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


HOUSEKEEPING = (
    Pruning(
        "idempotency records",
        text("""
        delete from idempotency where (user_id, key) in (
          select user_id, key from idempotency
          where created_at < now() - make_interval(hours => :hours) limit :batch)
        """).bindparams(hours=KEPT_HOURS),
    ),
)
