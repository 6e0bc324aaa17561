"""Signing in, staying signed in, signing out.

What a refused request must leave behind, an audit entry or a revocation, is committed before the refusal is raised."""

import hashlib
import secrets
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, func, insert, select, update
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.auth import login_limits, passwords, queries
from erp_service.auth.models import RefreshFamily, RefreshToken, User
from erp_service.auth.passwords import HashSlot, Passwords
from erp_service.auth.problems import RefreshRefused, WrongCredentials
from erp_service.auth.queries import Account
from erp_service.auth.schemas import LoginCredentials, PasswordChange, TokenPair
from erp_service.auth.tokens import Claims, Tokens
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault, Refused
from erp_service.settings import Settings

FAMILY_DAYS = 90
"""A sign-in ends after so many days, however often it is refreshed."""


class LoginContext(msgspec.Struct, frozen=True):
    """What one instance signs users in with."""

    settings: Settings
    database: Database
    passwords: Passwords
    tokens: Tokens


async def sign_in(login: LoginContext, anonymous: Principal, credentials: LoginCredentials) -> TokenPair:
    """Raises WrongCredentials, errors.TooMany after too many failures, errors.Unavailable when the queue of the hashing
    threads is full.

    No database connection is held while the hash is computed."""
    with login.passwords.slot() as slot:
        await login_limits.count_attempt(login.database, login.settings, credentials.email, anonymous.address)
        async with login.database.read() as db:
            account = await queries.account_by_email(db, credentials.email)
        matches = await slot.verify(account.password_hash if account else None, credentials.password)
        new_hash = await _hash_if_outdated(slot, account, credentials.password) if matches else None
    async with login.database.write() as db:
        pair = await _start_session(db, login, anonymous, account, new_hash) if account and matches else None
        if pair is None:
            # never the e-mail as typed: the log is kept for ever, and people type passwords into the wrong field
            await record(db, anonymous, "user.sign_in_failed", account.id if account else "unknown")
    if pair is None:
        raise WrongCredentials
    await login_limits.reset_after_success(login.database, credentials.email, anonymous.address)
    return pair


async def _hash_if_outdated(slot: HashSlot, account: Account | None, password: str) -> str | None:
    if account is None or not slot.outdated(account.password_hash):
        return None
    return await slot.hash(password)


async def _start_session(
    db: WriteSession, login: LoginContext, anonymous: Principal, account: Account, new_hash: str | None
) -> TokenPair | None:
    """None if the user was deactivated or has another password by now."""
    # the row is locked and compared again: a reset or a deactivation may have committed while we hashed
    authority_version = (
        await db.execute(
            update(User)
            .where(User.id == account.id, User.is_active, queries.password_hash() == account.password_hash)
            .values(last_login_at=func.now(), password_hash=new_hash or account.password_hash)
            .returning(User.authority_version)
        )
    ).scalar_one_or_none()
    if authority_version is None:
        return None
    family_id = await _start_family(db, account.id)
    who = msgspec.structs.replace(anonymous, user_id=account.id)
    await record(db, who, "user.signed_in", account.id)
    return await _issue(db, login, Claims(account.id, authority_version, family_id))


async def refresh(login: LoginContext, anonymous: Principal, token: str) -> TokenPair:
    """A new pair for a refresh token, which works once; a second use revokes its family. Raises RefreshRefused."""
    async with login.database.write() as db:
        outcome = await _rotate(db, login, anonymous, token)
    # raised only now: the revocation must commit although the request is refused
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


async def _rotate(db: WriteSession, login: LoginContext, anonymous: Principal, token: str) -> TokenPair | Refused:
    # of two requests with the same token, the second waits here for the lock and then sees the token as used
    row = (
        await db.execute(
            select(
                RefreshFamily.id,
                RefreshFamily.user_id,
                RefreshFamily.revoked_at,
                RefreshToken.used_at,
                (RefreshToken.expires_at <= func.now()).label("expired"),
            )
            .join(RefreshToken, RefreshToken.family_id == RefreshFamily.id)
            .where(RefreshToken.digest == _digest(token))
            .with_for_update()
        )
    ).one_or_none()
    if row is None or row.revoked_at is not None:
        return RefreshRefused()
    if row.used_at is not None:
        await _revoke(db, "reuse", RefreshFamily.id == row.id)
        await record(db, anonymous, "user.refresh_token_reused", row.user_id, after={"family": str(row.id)})
        return RefreshRefused("It was used before, so its whole sign-in has been ended.")
    # a statement of its own, after the lock: the one above, if it waited, may see the user as they were before
    authority = await queries.authority(db, row.user_id)
    if row.expired or authority is None or not authority.active:
        return RefreshRefused()
    # every unused token and not just this one: a change of password leaves two, and a copy of either must be recognised
    await db.execute(
        update(RefreshToken)
        .where(RefreshToken.family_id == row.id, RefreshToken.used_at.is_(None))
        .values(used_at=func.now())
    )
    return await _issue(db, login, Claims(row.user_id, authority.version, row.id))


async def sign_out(db: WriteSession, who: Principal, claims: Claims) -> None:
    """Ends the sign-in that the access token belongs to. Its access tokens stay valid until they expire."""
    if await _revoke(db, "logout", RefreshFamily.id == claims.family):
        await record(db, who, "user.signed_out", who.user_id)


async def change_password(login: LoginContext, who: Principal, claims: Claims, change: PasswordChange) -> TokenPair:
    """Ends all other sign-ins and all access tokens of the user; returns a new pair for this sign-in.

    Raises errors.Invalid for a wrong old password or a weak new one, errors.TooMany after too many failures,
    errors.Unavailable when the queue of the hashing threads is full."""
    with login.passwords.slot() as slot:
        async with login.database.read() as db:
            account = await queries.account_by_id(db, claims.user_id)
        refuse_weak(change.new_password, account.email, "/new_password")
        await login_limits.count_attempt(login.database, login.settings, account.email, who.address)
        matches = await slot.verify(account.password_hash, change.old_password)
        new_hash = await slot.hash(change.new_password) if matches else ""
    async with login.database.write() as db:
        pair = await _replace_password(db, login, who, account, claims.family, new_hash) if matches else None
        if pair is None:
            await record(db, who, "user.password_change_failed", account.id)
    if pair is None:
        raise errors.Invalid(None, Fault("is not your password", pointer="/old_password"))
    await login_limits.reset_after_success(login.database, account.email, who.address)
    return pair


async def _replace_password(
    db: WriteSession, login: LoginContext, who: Principal, account: Account, family_id: UUID, new_hash: str
) -> TokenPair | None:
    """None if the user was deactivated or has another password by now."""
    version = (
        await db.execute(
            update(User)
            .where(User.id == account.id, User.is_active, queries.password_hash() == account.password_hash)
            .values(password_hash=new_hash, authority_version=User.authority_version + 1)
            .returning(User.authority_version)
        )
    ).scalar_one_or_none()
    if version is None:
        return None
    own = RefreshFamily.user_id == account.id
    await _revoke(db, "password changed", own, RefreshFamily.id != family_id)
    current = select(RefreshFamily.id).where(own, RefreshFamily.id == family_id, RefreshFamily.revoked_at.is_(None))
    if await db.scalar(current.with_for_update()) is None:
        # this sign-in was ended, but its access token was still valid
        family_id = await _start_family(db, account.id)
    await record(db, who, "user.password_changed", account.id)
    return await _issue(db, login, Claims(account.id, version, family_id))


def refuse_weak(password: str, email: str, pointer: str) -> None:
    """Raises errors.Invalid that points at the password."""
    if weaknesses := passwords.weaknesses(password, email):
        raise errors.Invalid(None, *(Fault(weakness, pointer=pointer) for weakness in weaknesses))


async def end_all(db: WriteSession, user_id: int, reason: str) -> None:
    """Revoke every refresh family of the user. The caller ends the access tokens too, by raising authority_version."""
    await _revoke(db, reason, RefreshFamily.user_id == user_id)


async def _start_family(db: WriteSession, user_id: int) -> UUID:
    """Its `expires_at` is set by `_issue`, which follows in the same transaction."""
    family_id = uuid7()
    await db.execute(insert(RefreshFamily).values(id=family_id, user_id=user_id, expires_at=func.now()))
    return family_id


async def _issue(db: WriteSession, login: LoginContext, claims: Claims) -> TokenPair:
    """A new pair of tokens; the family expires with its refresh token."""
    refresh_token = secrets.token_urlsafe(32)
    seconds = login.settings.refresh_token_seconds
    expires_at = (
        await db.execute(
            update(RefreshFamily)
            .where(RefreshFamily.id == claims.family)
            .values(
                expires_at=func.least(
                    func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds),
                    RefreshFamily.created_at + func.make_interval(0, 0, 0, FAMILY_DAYS),
                )
            )
            .returning(RefreshFamily.expires_at)
        )
    ).scalar_one()
    values = {"digest": _digest(refresh_token), "family_id": claims.family, "expires_at": expires_at}
    await db.execute(insert(RefreshToken).values(values))
    return TokenPair(
        access_token=login.tokens.issue(claims),
        refresh_token=refresh_token,
        expires_in=login.settings.access_token_seconds,
    )


async def _revoke(db: WriteSession, reason: str, *conditions: ColumnElement[bool]) -> int:
    """Returns how many families were revoked."""
    revoked = await db.execute(
        update(RefreshFamily)
        .where(RefreshFamily.revoked_at.is_(None), *conditions)
        .values(revoked_at=func.now(), revoked_because=reason)
        .returning(RefreshFamily.id)
    )
    return len(revoked.all())


def _digest(token: str) -> bytes:
    # one round of a fast hash is enough: 32 random bytes cannot be guessed
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
