"""The tables of webhooks: endpoints that are told of events, their secrets, and what was sent to them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Identity, Index, LargeBinary, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.db.base import Base
from erp_service.events.webhooks.problems import WebhookExists


class Webhook(Base):
    """One endpoint. It is told of each event after `cursor` of one of `types`, null for all, in the order of positions.

    An event that it did not take blocks it: it is tried again at `next_attempt_at`, and nothing after it before.
    `queue_job_id` is the job of the queue that delivers to it, if that has not ended, and `attempt` the attempt of that
    job: whoever has another of the two writes nothing more."""

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("disabled_because in ('GONE', 'FAILED')", name="disabled_because_known"),
        CheckConstraint("disabled_because is null or not is_active", name="disabled_is_not_active"),
        CheckConstraint("cursor >= 0", name="cursor_not_negative"),
        CheckConstraint(
            "(blocked_position is null) = (blocked_since is null) and (blocked_since is null) = (failures = 0)"
            " and blocked_position > cursor",
            name="blocked",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(Text, unique=True)
    types: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    description: Mapped[str | None] = mapped_column(Text)
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_because: Mapped[str | None] = mapped_column(Text)
    cursor: Mapped[int] = mapped_column(BigInteger)
    blocked_position: Mapped[int | None] = mapped_column(BigInteger)
    blocked_since: Mapped[datetime | None] = mapped_column()
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    next_attempt_at: Mapped[datetime | None] = mapped_column()
    last_error: Mapped[str | None] = mapped_column(Text)
    last_success_at: Mapped[datetime | None] = mapped_column()
    queue_job_id: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    created_by: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))


class WebhookSecret(Base):
    """A key that messages are signed with. The newest has no end; those before it are valid for a while longer."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (Index("webhook_secrets_webhook_id_idx", "webhook_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    valid_until: Mapped[datetime | None] = mapped_column()


class WebhookDelivery(Base):
    """One attempt to deliver one event. `status` is that of HTTP; `error` says why there is none."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("(status is null) = (error is not null)", name="status_or_error"),
        Index("webhook_deliveries_webhook_id_idx", "webhook_id", "id"),
        Index("webhook_deliveries_at_idx", "at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column()
    status: Mapped[int | None] = mapped_column()
    error: Mapped[str | None] = mapped_column(Text)
    milliseconds: Mapped[int] = mapped_column()
    response: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


errors.constraint("webhooks_url_key", WebhookExists)
