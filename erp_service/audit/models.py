"""The audit log: append-only by trigger and by grant."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from erp_service.db.base import Base


class AuditEntry(Base):
    """Who did what and from where, with the values before and after. `user_id` is null for the service itself and for a
    caller who had not signed in.

    `on_behalf_of` is the user in whose name, or on whose property, somebody else acted. `actor` says who acted if that
    was no user, or by which way a user did; `api_key_id` by which key of theirs."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("audit_log_user_id_idx", "user_id", "id"),
        Index("audit_log_entity_idx", "entity", "entity_id", "id"),
        Index("audit_log_action_idx", "action", "id"),
        Index("audit_log_request_id_idx", "request_id", "id"),
        Index("audit_log_at_idx", "at"),
        Index("audit_log_on_behalf_of_idx", "on_behalf_of", "id", postgresql_where=text("on_behalf_of is not null")),
        Index("audit_log_api_key_id_idx", "api_key_id", "id", postgresql_where=text("api_key_id is not null")),
        Index("audit_log_actor_idx", "actor", "id", postgresql_where=text("actor is not null")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))
    action: Mapped[str] = mapped_column(Text)
    entity: Mapped[str] = mapped_column(Text)
    entity_id: Mapped[str] = mapped_column(Text)
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    reason: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(Text)
    on_behalf_of: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))
    actor: Mapped[str | None] = mapped_column(Text)
    # without a foreign key, which every posting would pay for: keys are never deleted
    api_key_id: Mapped[int | None] = mapped_column(BigInteger)
