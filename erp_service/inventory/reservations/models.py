"""The table of reservations: stock that is held for somebody until a time."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from erp_service.db.base import Base, quantity_column


class StockReservation(Base):
    """A part of what is on hand of one item at one location. The sum of the quantities of the ACTIVE ones of a balance
    is its `reserved`, in every transaction: whoever writes a reservation has locked its balance.

    `quantity` is what is still held, or was when the reservation ended; the rest of `original_quantity` was used up.
    One that has expired is ACTIVE until somebody ends it, and blocks nobody meanwhile (expiry.py)."""

    __tablename__ = "stock_reservations"
    __table_args__ = (
        CheckConstraint("status in ('ACTIVE', 'USED', 'RELEASED', 'EXPIRED')", name="status_known"),
        CheckConstraint(
            "original_quantity > 0 and original_quantity <> 'NaN' and quantity between 0 and original_quantity",
            name="numbers",
        ),
        CheckConstraint("status <> 'ACTIVE' or quantity > 0", name="active_holds"),
        CheckConstraint("status <> 'USED' or quantity = 0", name="used_up"),
        CheckConstraint("(status = 'ACTIVE') = (ended_at is null)", name="ended"),
        CheckConstraint("expires_at < 'infinity'", name="expires"),
        ForeignKeyConstraint(["item_id", "location_id"], ["stock_balances.item_id", "stock_balances.location_id"]),
        Index(
            "stock_reservations_active_idx",
            "item_id",
            "location_id",
            "expires_at",
            postgresql_where=text("status = 'ACTIVE'"),
        ),
        Index("stock_reservations_active_id_idx", "id", postgresql_where=text("status = 'ACTIVE'")),
        Index("stock_reservations_due_idx", "expires_at", postgresql_where=text("status = 'ACTIVE'")),
        Index("stock_reservations_reference_id_idx", "reference", "id", postgresql_where=text("reference is not null")),
        Index("stock_reservations_item_id_id_idx", "item_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(BigInteger)
    location_id: Mapped[int] = mapped_column(BigInteger)
    quantity: Mapped[Decimal] = mapped_column(quantity_column())
    original_quantity: Mapped[Decimal] = mapped_column(quantity_column())
    status: Mapped[str] = mapped_column(Text, server_default=text("'ACTIVE'"))
    reference: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column()
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None] = mapped_column()
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
