"""Users, and the families of refresh tokens that keep them signed in."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, LargeBinary, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from erp_service import errors
from erp_service.auth.problems import EmailTaken
from erp_service.db.base import Base
from erp_service.registry.housekeeping import Pruning


class User(Base):
    """Never deleted, only deactivated: the audit log and the stock ledger refer to users for ever."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role in ('VIEWER', 'STAFF', 'ADMIN', 'SUPER_ADMIN')", name="role_known"),
        Index("users_email_key", "email_key", unique=True),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    # emails.email_key of it; a trigger fills it for the version before, which does not know it
    email_key: Mapped[str] = mapped_column(Text(collation="C"))
    full_name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    password_hash: Mapped[str] = mapped_column(Text)
    # somebody else knows the password: until it is changed, tokens are good for nothing else
    must_change_password: Mapped[bool] = mapped_column(server_default=text("false"))
    # none: of before this was kept
    password_set_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    # nobody signs in any more with a password that somebody else has set, and that was not changed until then
    password_expires_at: Mapped[datetime | None] = mapped_column()
    # none: the password is enough
    second_factor_since: Mapped[datetime | None] = mapped_column()
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    # carried by access tokens: raising it makes all tokens that were issued before invalid
    authority_version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_login_at: Mapped[datetime | None] = mapped_column()


errors.constraint("users_email_key", EmailTaken)


class LoginNetwork(Base):
    """A network from which an account has signed in: what others do elsewhere does not slow down its log-ins there."""

    __tablename__ = "login_networks"

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"), primary_key=True)
    network: Mapped[str] = mapped_column(Text, primary_key=True)
    last_success_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class RefreshFamily(Base):
    """All the refresh tokens that descend from one log-in. Reuse of any of them revokes the family, and a trigger then
    notifies all instances: access tokens and signed addresses of the family end, too."""

    __tablename__ = "refresh_families"
    __table_args__ = (
        Index("refresh_families_revoked_at_idx", "revoked_at", postgresql_where=text("revoked_at is not null")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # that of its newest token; after it the family can be deleted
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None] = mapped_column()
    revoked_because: Mapped[str | None] = mapped_column(Text)
    # of the log-in
    address: Mapped[str | None] = mapped_column(Text)
    user_agent: Mapped[str | None] = mapped_column(Text)
    second_factor: Mapped[bool] = mapped_column(server_default=text("false"))
    # the time of its newest token
    last_used_at: Mapped[datetime | None] = mapped_column()


class RefreshToken(Base):
    """Only the SHA-256 of a token is stored: nobody can use what they read in this table."""

    __tablename__ = "refresh_tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    family_id: Mapped[UUID] = mapped_column(ForeignKey("refresh_families.id", ondelete="CASCADE"), index=True)
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None] = mapped_column()
    # the SHA-256 of the key that its use came with, if it came with one
    used_with: Mapped[bytes | None] = mapped_column(LargeBinary)


# A used token is kept until it expires, so that its reuse is recognised. A family is deleted after its tokens, and not
# before: the cascade would lock the family first and its tokens second, and a refresh locks them in the other order.
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
            -- its access tokens may live longer, and an instance that starts must learn that they are dead
            and (revoked_at is null or revoked_at <= now() - interval '25 hours')
          limit :batch for update skip locked)
        """),
    ),
)
