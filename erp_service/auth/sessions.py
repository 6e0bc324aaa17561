"""Signing in, staying signed in, signing out. What a refused request must leave behind commits before it is refused."""

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
from erp_service.auth.schemas import Credentials, PasswordChange, TokenPair
from erp_service.auth.tokens import Claims, Tokens
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault, Refused
from erp_service.settings import Settings

FAMILY_DAYS = 90
"""However often it is refreshed, a sign-in ends after so many days."""


class LoginContext(msgspec.Struct, frozen=True):
    """What one instance signs people in with."""

    settings: Settings
    database: Database
    passwords: Passwords
    tokens: Tokens


async def sign_in(gate: LoginContext, visitor: Principal, given: Credentials) -> TokenPair:
    """Raises WrongCredentials, errors.TooMany after too many failures, errors.Unavailable when the line is full.

    No database connection is held while the hash is computed."""
    with gate.passwords.place() as place:
        await login_limits.count(gate.database, gate.settings, given.email, visitor.address)
        async with gate.database.read() as db:
            account = await queries.account_of_email(db, given.email)
        right = await place.verify(account.password_hash if account else None, given.password)
        renewed = await _renewed(place, account, given.password) if right else None
    async with gate.database.write() as db:
        pair = await _enter(db, gate, visitor, account, renewed) if account and right else None
        if pair is None:
            # not what was typed as e-mail: the log is for ever, and people type passwords into the wrong field
            await record(db, visitor, "user.sign_in_failed", account.id if account else "unknown")
    if pair is None:
        raise WrongCredentials
    await login_limits.succeeded(gate.database, given.email, visitor.address)
    return pair


async def _renewed(place: HashSlot, account: Account | None, password: str) -> str | None:
    if account is None or not place.outdated(account.password_hash):
        return None
    return await place.hash(password)


async def _enter(
    db: WriteSession, gate: LoginContext, visitor: Principal, account: Account, renewed: str | None
) -> TokenPair | None:
    # the row is locked and looked at again: a reset or a deactivation may have committed while we hashed
    entered = (
        await db.execute(
            update(User)
            .where(User.id == account.id, User.is_active, User.password_hash == account.password_hash)
            .values(last_login_at=func.now(), password_hash=renewed or account.password_hash)
            .returning(User.authority_version)
        )
    ).scalar_one_or_none()
    if entered is None:
        return None
    family = await _start_family(db, gate, account.id)
    who = msgspec.structs.replace(visitor, user_id=account.id)
    await record(db, who, "user.signed_in", account.id)
    return await _issue(db, gate, Claims(account.id, entered, family))


async def refresh(gate: LoginContext, visitor: Principal, token: str) -> TokenPair:
    """A new pair for a token's only use; raises RefreshRefused, and a second use revokes the whole family."""
    async with gate.database.write() as db:
        outcome = await _rotate(db, gate, visitor, token)
    # raised only now: the revocation must commit though the request is refused
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


async def _rotate(db: WriteSession, gate: LoginContext, visitor: Principal, token: str) -> TokenPair | Refused:
    # of two who come with one token, the second waits here and then sees it used
    found = (
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
    if found is None or found.revoked_at is not None:
        return RefreshRefused()
    if found.used_at is not None:
        await _revoke(db, "reuse", RefreshFamily.id == found.id)
        await record(db, visitor, "user.refresh_token_reused", found.user_id, after={"family": str(found.id)})
        return RefreshRefused("It was used before, so its whole sign-in has been ended.")
    # after the lock, in a statement of its own: what a waiting snapshot says of the user may be old
    authority = await queries.authority(db, found.user_id)
    if found.expired or authority is None or not authority.active:
        return RefreshRefused()
    # all that are unused, not just this one: after a change of password there are two, and a copy of either must show
    await db.execute(
        update(RefreshToken)
        .where(RefreshToken.family_id == found.id, RefreshToken.used_at.is_(None))
        .values(used_at=func.now())
    )
    return await _issue(db, gate, Claims(found.user_id, authority.version, found.id))


async def sign_out(db: WriteSession, who: Principal, claims: Claims) -> None:
    """Ends the sign-in that the access token belongs to; its access tokens live on until they expire."""
    if await _revoke(db, "logout", RefreshFamily.id == claims.family):
        await record(db, who, "user.signed_out", who.user_id)


async def change_password(gate: LoginContext, who: Principal, claims: Claims, change: PasswordChange) -> TokenPair:
    """Ends all other sign-ins and all access tokens; gives a new pair of this one.

    Raises errors.Invalid for a wrong old password or a new one that cannot be, errors.TooMany after failures."""
    with gate.passwords.place() as place:
        async with gate.database.read() as db:
            account = await queries.account_of_user(db, claims.user_id)
        refuse_weak(change.new_password, account.email, "/new_password")
        await login_limits.count(gate.database, gate.settings, account.email, who.address)
        right = await place.verify(account.password_hash, change.old_password)
        new_hash = await place.hash(change.new_password) if right else ""
    async with gate.database.write() as db:
        pair = await _replace_password(db, gate, who, account, claims.family, new_hash) if right else None
        if pair is None:
            await record(db, who, "user.password_change_failed", account.id)
    if pair is None:
        raise errors.Invalid(None, Fault("is not your password", pointer="/old_password"))
    await login_limits.succeeded(gate.database, account.email, who.address)
    return pair


async def _replace_password(
    db: WriteSession, gate: LoginContext, who: Principal, account: Account, family: UUID, new_hash: str
) -> TokenPair | None:
    version = (
        await db.execute(
            update(User)
            .where(User.id == account.id, User.is_active, User.password_hash == account.password_hash)
            .values(password_hash=new_hash, authority_version=User.authority_version + 1)
            .returning(User.authority_version)
        )
    ).scalar_one_or_none()
    if version is None:
        return None
    own = RefreshFamily.user_id == account.id
    await _revoke(db, "password changed", own, RefreshFamily.id != family)
    kept = select(RefreshFamily.id).where(own, RefreshFamily.id == family, RefreshFamily.revoked_at.is_(None))
    if await db.scalar(kept.with_for_update()) is None:
        # signed out, yet the access token was still good
        family = await _start_family(db, gate, account.id)
    await record(db, who, "user.password_changed", account.id)
    return await _issue(db, gate, Claims(account.id, version, family))


def refuse_weak(password: str, email: str, pointer: str) -> None:
    """Raises errors.Invalid that points at the password."""
    if weak := passwords.weaknesses(password, email):
        raise errors.Invalid(None, *(Fault(fault, pointer=pointer) for fault in weak))


async def end_all(db: WriteSession, user_id: int, because: str) -> None:
    """Revoke every family of the user; that their access tokens die too is up to authority_version."""
    await _revoke(db, because, RefreshFamily.user_id == user_id)


async def _start_family(db: WriteSession, gate: LoginContext, user_id: int) -> UUID:
    family = uuid7()
    await db.execute(insert(RefreshFamily).values(id=family, user_id=user_id, expires_at=func.now()))
    return family


async def _issue(db: WriteSession, gate: LoginContext, claims: Claims) -> TokenPair:
    token = secrets.token_urlsafe(32)
    seconds = gate.settings.refresh_token_seconds
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
    values = {"digest": _digest(token), "family_id": claims.family, "expires_at": expires_at}
    await db.execute(insert(RefreshToken).values(values))
    return TokenPair(
        access_token=gate.tokens.issue(claims), refresh_token=token, expires_in=gate.settings.access_token_seconds
    )


async def _revoke(db: WriteSession, because: str, *which: ColumnElement[bool]) -> int:
    revoked = await db.execute(
        update(RefreshFamily)
        .where(RefreshFamily.revoked_at.is_(None), *which)
        .values(revoked_at=func.now(), revoked_because=because)
        .returning(RefreshFamily.id)
    )
    return len(revoked.all())


def _digest(token: str) -> bytes:
    # one round is enough: there is nothing to guess in 32 random bytes
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
