"""Signing in, staying signed in, signing out.

What a refused request must leave behind, an audit entry or a revocation, is committed before the refusal is raised."""

from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, LargeBinary, Text, bindparam, case, cast, func, select, update

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.auth import queries
from erp_service.auth.credentials import rights_changed
from erp_service.auth.login import families, limits
from erp_service.auth.login.context import LoginContext
from erp_service.auth.login.counting import counted_attempt, counting
from erp_service.auth.login.networks import forget, networks_of, remember
from erp_service.auth.models import RefreshFamily, RefreshToken, User
from erp_service.auth.passwords import HashSlot
from erp_service.auth.problems import (
    RefreshRefused,
    SecondFactorNeeded,
    SecondFactorWrong,
    TemporaryPasswordExpired,
    WrongCredentials,
)
from erp_service.auth.queries import Account
from erp_service.auth.schemas import LoginCredentials, PasswordChange, TokenPair
from erp_service.auth.second_factor.check import use_code
from erp_service.auth.strength import rules
from erp_service.auth.tokens import Claims
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared
from erp_service.errors import Fault, Refused
from erp_service.web import rate_limits


async def sign_in(
    login: LoginContext, anonymous: Principal, credentials: LoginCredentials, user_agent: str | None = None
) -> TokenPair:
    """Raises WrongCredentials; SecondFactorNeeded, SecondFactorWrong and TemporaryPasswordExpired to whoever knows the
    password; errors.TooMany after too many failures or sign-ins, errors.Unavailable when attempts cannot be counted or
    the queue of the hashing threads is full.

    No database connection is held while the hash is computed."""
    networks = networks_of(anonymous.address)
    with login.passwords.slot() as slot:
        async with counting(login) as db:
            account = await queries.account_by_email(db, credentials.email, networks)
            known = account is not None and account.known_network
            attempt = limits.attempt_on(credentials.email, networks, known=known)
            await limits.count(db, login.settings, attempt)
        matches = await slot.verify(account.password_hash if account else None, credentials.password)
        new_hash = await _hash_if_outdated(slot, account, credentials.password) if matches else None
    if account and matches:
        if credentials.code is not None:
            await limits.count_code(login.database, login.settings, account.id, attempt)
        await limits.count_sign_in(login.database, login.settings, account.id)
    async with login.database.write() as db:
        outcome: TokenPair | Refused = WrongCredentials()
        if account and matches:
            outcome = await _start_session(db, login, anonymous, account, new_hash, credentials.code, user_agent)
        if isinstance(outcome, Refused):
            await _record_refusal(db, anonymous, account, outcome)
    if isinstance(outcome, Refused):
        raise outcome
    # only now: whoever has the password alone must not clear the counts of wrong codes
    await limits.reset_after_success(login.database, login.settings, attempt)
    if account and credentials.code is not None:
        await limits.reset_codes(login.database, account.id)
    return outcome


async def _record_refusal(db: WriteSession, anonymous: Principal, account: Account | None, refusal: Refused) -> None:
    # never the e-mail as typed: the log is kept for ever, and people type passwords into the wrong field
    entity_id = account.id if account else "unknown"
    if isinstance(refusal, SecondFactorNeeded):
        # not a failure yet; but if no sign-in follows, somebody else has the password
        await record(db, anonymous, "user.second_factor_requested", entity_id)
    elif isinstance(refusal, SecondFactorWrong):
        await record(db, anonymous, "user.second_factor_failed", entity_id)
    else:
        await record(db, anonymous, "user.sign_in_failed", entity_id)


async def _hash_if_outdated(slot: HashSlot, account: Account | None, password: str) -> str | None:
    if account is None or not slot.outdated(account.password_hash):
        return None
    return await slot.hash(password)


async def _start_session(
    db: WriteSession,
    login: LoginContext,
    anonymous: Principal,
    account: Account,
    new_hash: str | None,
    code: str | None,
    user_agent: str | None,
) -> TokenPair | Refused:
    """WrongCredentials if the user was deactivated or has another password by now."""
    # the row is locked and compared again: a reset or a deactivation may have committed while we hashed
    user = (await db.execute(_LOCK, {"id": account.id, "password_hash": account.password_hash})).one_or_none()
    if user is None:
        return WrongCredentials()
    if user.password_expired:
        return TemporaryPasswordExpired()
    who = msgspec.structs.replace(anonymous, user_id=account.id)
    has_second_factor = user.second_factor_since is not None
    if has_second_factor and code is None:
        return SecondFactorNeeded()
    if has_second_factor and not await use_code(db, login.secret_box, who, account.id, code or ""):
        return SecondFactorWrong()
    values = {"last_login_at": func.now(), "password_hash": new_hash or account.password_hash}
    await db.execute(update(User).where(User.id == account.id).values(values))
    await remember(db, account.id, networks_of(anonymous.address))
    family_id = await families.start(
        db, account.id, address=anonymous.address, user_agent=user_agent, second_factor=has_second_factor
    )
    await record(db, who, "user.signed_in", account.id, after={"second_factor": True} if has_second_factor else None)
    return await families.issue(db, login.settings, login.tokens, Claims(account.id, user.authority_version, family_id))


_LOCK = Prepared(
    select(
        User.authority_version,
        User.second_factor_since,
        func.coalesce(User.password_expires_at <= func.now(), False).label("password_expired"),
    )
    .where(User.id == bindparam("id", type_=BigInteger), User.is_active)
    .where(queries.password_hash() == bindparam("password_hash", type_=Text))
    .with_for_update(key_share=True)
)


async def refresh(login: LoginContext, anonymous: Principal, token: str, key: str | None = None) -> TokenPair:
    """A new pair for a refresh token, which works once; a second use revokes its family.

    `key` is a random text of the client's for this one use. With the same key, a second use asks again for an answer
    that was lost: as long as nothing that came of the first was used, it gets a new pair, and that of the first counts
    as used. Whoever has only a copy of the token does not know the key.

    Raises RefreshRefused, errors.TooMany after too many of one sign-in in a minute."""
    async with login.database.write() as db:
        outcome = await _rotate(db, login, anonymous, token, families.digest(key) if key else None)
    if isinstance(outcome, UUID):
        login.revocations.add(outcome)
        raise RefreshRefused("It was used before, so its whole sign-in has been ended.")
    # raised only now: the revocation must commit although the request is refused
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


async def _rotate(
    db: WriteSession, login: LoginContext, anonymous: Principal, token: str, key: bytes | None
) -> TokenPair | Refused | UUID:
    """The UUID is that of a family that was revoked for the reuse of the token."""
    # of two requests with the same token, the second waits here for the lock and then sees the token as used
    row = (
        await db.execute(
            select(
                RefreshFamily.id,
                RefreshFamily.user_id,
                RefreshFamily.revoked_at,
                RefreshToken.used_at,
                RefreshToken.used_with,
                (RefreshToken.expires_at <= func.now()).label("expired"),
            )
            .join(RefreshToken, RefreshToken.family_id == RefreshFamily.id)
            .where(RefreshToken.digest == families.digest(token))
            .with_for_update()
        )
    ).one_or_none()
    if row is None or row.revoked_at is not None:
        return RefreshRefused()
    is_repeat = key is not None and row.used_with == key and not await families.used_since(db, row.id, row.used_at)
    if row.used_at is not None and not is_repeat:
        await families.revoke(db, "reuse", RefreshFamily.id == row.id)
        await record(db, anonymous, "user.refresh_token_reused", row.user_id, after={"family": str(row.id)})
        return UUID(bytes=row.id.bytes)
    # a statement of its own, after the lock: the one above, if it waited, may see the user as they were before
    authority = await queries.authority(db, row.user_id)
    if row.expired or authority is None or not authority.active:
        return RefreshRefused()
    if (seconds := await families.seconds_until_refresh(db, row.id, login.settings.sign_ins_per_account)) > 0:
        # the token is not used up
        return rate_limits.too_many(seconds)
    # every unused token and not just this one: a change of password leaves two, and a copy of either must be recognised
    used = RefreshToken.digest == families.digest(token)
    await db.execute(
        update(RefreshToken)
        .where(RefreshToken.family_id == row.id, RefreshToken.used_at.is_(None))
        # a lost answer's token counts as used with the one that it was given for, so that the answer may be lost again
        .values(used_at=row.used_at or func.now(), used_with=case((used, cast(key, LargeBinary))))
    )
    return await families.issue(db, login.settings, login.tokens, Claims(row.user_id, authority.version, row.id))


async def sign_out(login: LoginContext, who: Principal, claims: Claims) -> None:
    """Ends the sign-in that the access token belongs to: here when it returns, on other instances when the notification
    of the trigger arrives."""
    async with login.database.write() as db:
        if await families.revoke(db, "logout", RefreshFamily.id == claims.family):
            await record(db, who, "user.signed_out", who.user_id)
    login.revocations.add(claims.family)


async def change_password(login: LoginContext, who: Principal, claims: Claims, change: PasswordChange) -> TokenPair:
    """Ends all other sign-ins and all access tokens of the user; returns a new pair for this sign-in.

    Raises errors.Invalid for a wrong old password or a weak new one, errors.TooMany after too many failures,
    errors.Unavailable when the queue of the hashing threads is full."""
    networks = networks_of(who.address)
    with login.passwords.slot() as slot:
        async with login.database.read() as read:
            account = await queries.account_by_id(read, claims.user_id, networks)
        refuse_weak(
            change.new_password,
            account.email,
            "/new_password",
            full_name=account.full_name,
            old=change.old_password,
        )
        attempt = await counted_attempt(login, account, networks)
        matches = await slot.verify(account.password_hash, change.old_password)
        new_hash = await slot.hash(change.new_password) if matches else ""
    async with login.database.write() as db:
        pair = await _replace_password(db, login, who, account, claims.family, new_hash) if matches else None
        if pair is None:
            await record(db, who, "user.password_change_failed", account.id)
    if pair is None:
        raise errors.Invalid(None, Fault("is not your password", pointer="/old_password"))
    await limits.reset_after_success(login.database, login.settings, attempt)
    return pair


async def _replace_password(
    db: WriteSession, login: LoginContext, who: Principal, account: Account, family_id: UUID, new_hash: str
) -> TokenPair | None:
    """None if the user was deactivated or has another password by now. Raises errors.Unauthorized if the sign-in was
    ended by now."""
    values = {"password_hash": new_hash, "must_change_password": False, "password_expires_at": None}
    values["password_set_at"] = func.now()
    version = await db.scalar(
        update(User)
        .where(User.id == account.id, User.is_active, queries.password_hash() == account.password_hash)
        .values(values | {"authority_version": User.authority_version + 1})
        .returning(User.authority_version)
    )
    if version is None:
        return None
    if not await families.lock_if_live(db, account.id, family_id):
        raise rights_changed()
    await families.revoke(db, "password changed", RefreshFamily.user_id == account.id, RefreshFamily.id != family_id)
    await forget(db, account.id, but=networks_of(who.address))
    await record(db, who, "user.password_changed", account.id)
    return await families.issue(db, login.settings, login.tokens, Claims(account.id, version, family_id))


def refuse_weak(password: str, email: str, pointer: str, *, full_name: str = "", old: str | None = None) -> None:
    """Raises errors.Invalid that points at the password."""
    if weaknesses := rules.weaknesses(password, email, full_name=full_name, old=old):
        raise errors.Invalid(None, *(Fault(weakness, pointer=pointer) for weakness in weaknesses))


async def end_all(db: WriteSession, user_id: int, reason: str) -> None:
    """Revoke every refresh family of the user. The caller ends the access tokens too, by raising authority_version."""
    await families.revoke(db, reason, RefreshFamily.user_id == user_id)
