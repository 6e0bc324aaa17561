"""Counts, and their lines."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.db.base import Base, Exact, money_column, quantity_column
from erp_service.inventory.counts.problems import CountEnded


class StockCount(Base):
    """A count of one location. `last_entry_id` is the last entry of the ledger when it was opened.

    Of a posted one, `differences` is the number of lines that differed from the books, and `transaction_id` their
    document; without a difference there is no document. A count that has ended stays as it is, by trigger."""

    __tablename__ = "stock_counts"
    __table_args__ = (
        UniqueConstraint("transaction_id"),
        CheckConstraint("status in ('OPEN', 'POSTED', 'CANCELED')", name="status_known"),
        CheckConstraint("(status = 'OPEN') = (ended_at is null)", name="end_of_open"),
        CheckConstraint(
            "case when status = 'POSTED'"
            " then differences is not null and differences >= 0 and (differences > 0) = (transaction_id is not null)"
            " else differences is null and transaction_id is null end",
            name="document_of_differences",
        ),
        Index("stock_counts_location_id_id_idx", "location_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    location_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("locations.id"))
    status: Mapped[str] = mapped_column(Text, server_default=text("'OPEN'"))
    reference_no: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[str | None] = mapped_column(Text)
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_entry_id: Mapped[int | None] = mapped_column(BigInteger)
    ended_at: Mapped[datetime | None] = mapped_column()
    differences: Mapped[int | None] = mapped_column(Integer)
    transaction_id: Mapped[UUID | None] = mapped_column(ForeignKey("stock_transactions.id"))
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))


class StockCountLine(Base):
    """What was counted of one item. `expected` is what was on hand by the books at that moment, and `last_entry_id` the
    item's last entry at the location then (None if there was none): so what moved since is known exactly.

    `counted_at` is None for a line that posting added because nobody had counted the item. `document_line` is the line
    of the document that booked the difference."""

    __tablename__ = "stock_count_lines"
    __table_args__ = (
        CheckConstraint("counted >= 0 and counted <> 'NaN'", name="counted_not_negative"),
        CheckConstraint("expected <> 'NaN'", name="numbers"),
        CheckConstraint("unit_cost is null or total_cost is null", name="one_cost"),
        CheckConstraint("unit_cost >= 0 and unit_cost < 1e18 and scale(unit_cost) <= 10", name="unit_cost_decimals"),
        CheckConstraint(
            "total_cost >= 0 and total_cost <> 'NaN' and (total_cost is null or counted > 0)", name="total_cost_of_some"
        ),
        Index("stock_count_lines_item_id_count_id_idx", "item_id", "count_id"),
    )

    count_id: Mapped[UUID] = mapped_column(ForeignKey("stock_counts.id"), primary_key=True)
    item_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("items.id"), primary_key=True, autoincrement=False)
    counted: Mapped[Decimal] = mapped_column(quantity_column())
    expected: Mapped[Decimal] = mapped_column(quantity_column())
    last_entry_id: Mapped[int | None] = mapped_column(BigInteger)
    counted_at: Mapped[datetime | None] = mapped_column()
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    unit_cost: Mapped[Decimal | None] = mapped_column(Exact())
    total_cost: Mapped[Decimal | None] = mapped_column(money_column())
    document_line: Mapped[int | None] = mapped_column(Integer)


errors.constraint("stock_counts_open", CountEnded)  # raised by triggers of both tables
errors.constraint("stock_counts_transaction_id_key", CountEnded)
