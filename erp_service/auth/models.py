"""Users, and the families of refresh tokens that let them stay signed in."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, LargeBinary, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.auth.problems import EmailTaken
from erp_service.db.base import Base
from erp_service.registry.housekeeping import Pruning


class User(Base):
    """Never deleted, only deactivated: audit and ledger name them for ever."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role in ('VIEWER', 'STAFF', 'ADMIN', 'SUPER_ADMIN')", name="role_known"),
        Index("users_email_key", text("lower(email)"), unique=True),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    full_name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    password_hash: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    # access tokens carry it: raising it ends all that were issued before
    authority_version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_login_at: Mapped[datetime | None] = mapped_column()


errors.constraint("users_email_key", EmailTaken)


class RefreshFamily(Base):
    """All the refresh tokens that descend from one log-in. Reuse of any of them revokes it."""

    __tablename__ = "refresh_families"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # of its youngest token; when it has passed, the family can be forgotten
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None] = mapped_column()
    revoked_because: Mapped[str | None] = mapped_column(Text)


class RefreshToken(Base):
    """Only the SHA-256 of a token is kept: who reads the table can refresh nothing."""

    __tablename__ = "refresh_tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    family_id: Mapped[UUID] = mapped_column(ForeignKey("refresh_families.id", ondelete="CASCADE"), index=True)
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None] = mapped_column()


# A used token is kept until it expires, to be recognised when it comes again. A family goes after its tokens and not
# before: a cascade would lock them after the family, and a refresh locks the other way round.
HOUSEKEEPING = (
    Pruning(
        "refresh tokens",
        text("""
        delete from refresh_tokens where digest in (
          select digest from refresh_tokens where expires_at <= now() limit :batch for update skip locked)
        """),
    ),
    Pruning(
        "refresh families",
        text("""
        delete from refresh_families where id in (
          select id from refresh_families family
          where expires_at <= now() and not exists (select from refresh_tokens where family_id = family.id)
          limit :batch for update skip locked)
        """),
    ),
)
