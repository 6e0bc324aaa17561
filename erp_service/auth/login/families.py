"""Families of refresh tokens: begun at sign-in, continued by refreshing, revoked."""

import hashlib
import secrets
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Double, cast, exists, func, insert, select, update
from uuid_utils.compat import uuid7

from erp_service.auth.models import RefreshFamily, RefreshToken
from erp_service.auth.schemas import TokenPair
from erp_service.auth.tokens import Claims, Tokens
from erp_service.db.base import among
from erp_service.db.sessions import Session, WriteSession
from erp_service.settings import Settings
from erp_service.texts import appearance

FAMILY_DAYS = 90
"""A sign-in ends after so many days, however often it is refreshed."""


LONGEST_ORIGIN = 200
"""Characters that are kept of the address and of the program's name, each."""


async def start(
    db: WriteSession, user_id: int, *, address: str | None, user_agent: str | None, second_factor: bool
) -> UUID:
    """Its `expires_at` and `last_used_at` are set by `issue`, which follows in the same transaction."""
    family_id = uuid7()
    values = {"id": family_id, "user_id": user_id, "expires_at": func.now(), "second_factor": second_factor}
    values |= {"address": _shown(address), "user_agent": _shown(user_agent)}
    await db.execute(insert(RefreshFamily).values(values))
    return family_id


def _shown(text: str | None) -> str | None:
    # it is whatever a client or a proxy says, and people read it: it must not look like something else there
    return appearance(text[: 4 * LONGEST_ORIGIN])[:LONGEST_ORIGIN] or None if text else None


async def issue(db: WriteSession, settings: Settings, tokens: Tokens, claims: Claims) -> TokenPair:
    """A new pair of tokens; the family expires with its refresh token."""
    refresh_token = secrets.token_urlsafe(32)
    seconds = settings.refresh_token_seconds
    expires_at = await db.scalar(
        update(RefreshFamily)
        .where(RefreshFamily.id == claims.family)
        .values(
            last_used_at=func.now(),
            expires_at=func.least(
                func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds),
                RefreshFamily.created_at + func.make_interval(0, 0, 0, FAMILY_DAYS),
            ),
        )
        .returning(RefreshFamily.expires_at)
    )
    values = {"digest": digest(refresh_token), "family_id": claims.family, "expires_at": expires_at}
    await db.execute(insert(RefreshToken).values(values))
    return TokenPair(
        access_token=tokens.issue(claims), refresh_token=refresh_token, expires_in=settings.access_token_seconds
    )


async def used_since(db: WriteSession, family_id: UUID, moment: datetime) -> bool:
    """Whether a token of the family was used after that moment."""
    used = (RefreshToken.family_id == family_id, RefreshToken.used_at > moment)
    return bool(await db.scalar(select(exists().where(*used))))


async def seconds_until_refresh(db: WriteSession, family_id: UUID, most: int) -> float:
    """0 unless so many tokens of the family were issued in the last minute: each is stored until it expires. The caller
    holds a lock on the family."""
    since = func.now() - func.make_interval(0, 0, 0, 0, 0, 1)
    recent = (RefreshToken.family_id == family_id, RefreshToken.issued_at > since)
    wait = cast(func.extract("epoch", func.min(RefreshToken.issued_at) - since), Double)
    count, seconds = (await db.execute(select(func.count(), wait).where(*recent))).one()
    return float(seconds) if count >= most else 0.0


async def lock_if_live(db: WriteSession, user_id: int, family_id: UUID) -> bool:
    """Whether the family is there and not revoked; it then stays so until the transaction ends."""
    live = (RefreshFamily.user_id == user_id, RefreshFamily.id == family_id, RefreshFamily.revoked_at.is_(None))
    return await db.scalar(select(RefreshFamily.id).where(*live).with_for_update()) is not None


async def revoke(db: WriteSession, reason: str, *conditions: ColumnElement[bool]) -> list[UUID]:
    """Returns the families that were revoked. A trigger notifies all instances of each."""
    families = await db.scalars(
        update(RefreshFamily)
        .where(RefreshFamily.revoked_at.is_(None), *conditions)
        .values(revoked_at=func.now(), revoked_because=reason)
        .returning(RefreshFamily.id)
    )
    # the driver's own class is another one
    return [UUID(bytes=family.bytes) for family in families]


async def revoked(db: Session, family_ids: list[UUID]) -> dict[UUID, bool]:
    """True for each of these families that is revoked; the others are missing from the result."""
    statement = select(RefreshFamily.id).where(
        among(RefreshFamily.id, family_ids), RefreshFamily.revoked_at.is_not(None)
    )
    return {row.id: True for row in await db.execute(statement)}


async def recently_revoked(db: Session, seconds: float) -> dict[UUID, float]:
    """The families that were revoked in the last so many seconds, oldest first, each with how long ago it was."""
    age = cast(func.extract("epoch", func.now() - RefreshFamily.revoked_at), Double)
    since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    statement = select(RefreshFamily.id, age).where(RefreshFamily.revoked_at > since).order_by(RefreshFamily.revoked_at)
    return {row[0]: row[1] for row in await db.execute(statement)}


def digest(token: str) -> bytes:
    """What is stored of a refresh token."""
    # one round of a fast hash is enough: 32 random bytes cannot be guessed
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
