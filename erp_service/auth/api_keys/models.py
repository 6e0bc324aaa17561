"""The table of API keys."""

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Identity, Index, LargeBinary, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.db.base import Base


class ApiKey(Base):
    """A key that acts for the user who made it. Never deleted, only revoked: the audit log refers to keys for ever. A
    trigger refuses any other change but that of `last_used_at`; another notifies all instances.

    Only the SHA-256 of a key is stored: nobody can use what they read in this table."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("role in ('VIEWER', 'STAFF', 'ADMIN', 'SUPER_ADMIN')", name="role_known"),
        CheckConstraint("cardinality(scopes) > 0", name="scopes_some"),
        CheckConstraint("cardinality(networks) > 0", name="networks_some"),
        CheckConstraint("length(digest) = 32", name="digest_sha256"),
        CheckConstraint("revoked_by is null or revoked_at is not null", name="revoked_by_somebody"),
        Index("api_keys_digest_key", "digest", unique=True),
        Index("api_keys_user_id_id_idx", "user_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # in CIDR notation; null: from everywhere
    networks: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    # the first characters of the key, by which people recognise it
    hint: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime | None] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # to the minute
    last_used_at: Mapped[datetime | None] = mapped_column()
    revoked_at: Mapped[datetime | None] = mapped_column()
    revoked_by: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id"))


errors.constraint("api_keys_digest_key", lambda: errors.Conflict("By chance the key was not new. Try again."))
