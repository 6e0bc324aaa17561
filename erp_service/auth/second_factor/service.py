"""Setting up one's own second factor, replacing and removing it.

Whoever has no more than a stolen token gets nowhere: each step asks for the password, and for a code if there is a
second factor already. What is shown is counted and delayed as at log-in."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from msgspec import UNSET
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.auth import queries
from erp_service.auth.credentials import rights_changed
from erp_service.auth.login import families, limits
from erp_service.auth.login.context import LoginContext
from erp_service.auth.login.counting import counted_attempt
from erp_service.auth.login.networks import networks_of
from erp_service.auth.models import RefreshFamily, User
from erp_service.auth.problems import NoSecondFactor, SecondFactorKept
from erp_service.auth.queries import Account
from erp_service.auth.second_factor import codes
from erp_service.auth.second_factor.check import UNIX_TIME, recovery_codes, remove_second_factor, use_code
from erp_service.auth.second_factor.models import RecoveryCode, SecondFactor
from erp_service.auth.second_factor.schemas import (
    Enrolment,
    EnrolmentStart,
    RecoveryCodes,
    SecondFactorOut,
    SecondFactorProof,
)
from erp_service.auth.tokens import Claims
from erp_service.company.settings import company_settings
from erp_service.db.sessions import Session, WriteSession
from erp_service.errors import Fault, Refused

T = TypeVar("T")

PENDING = timedelta(minutes=30)
"""How long a new secret waits for its first code."""


async def second_factor_of(db: Session, user_id: int) -> SecondFactorOut:
    row = (await db.execute(select(User.role, User.second_factor_since).where(User.id == user_id))).one()
    return SecondFactorOut(row.second_factor_since, await recovery_codes(db, user_id), await _is_required(db, row.role))


async def start(login: LoginContext, who: Principal, claims: Claims, body: EnrolmentStart) -> Enrolment:
    """A secret that takes effect with `confirm`; until then one that is there stays in force.

    Raises errors.Invalid for a wrong password, and for a code that is wrong or missing; errors.TooMany."""
    secret = codes.new_secret()

    async def begin(db: WriteSession, account: Account) -> Enrolment:
        pending = {"pending_secret": login.secret_box.seal(secret), "pending_since": func.now()}
        statement = upsert(SecondFactor).values(user_id=account.id, **pending)
        await db.execute(statement.on_conflict_do_update(index_elements=[SecondFactor.user_id], set_=pending))
        address = codes.otpauth_address(secret, account.email, (await company_settings(db)).company_name)
        return Enrolment(secret, address, datetime.now(UTC) + PENDING)

    code = None if body.code is UNSET else body.code
    return await _proven(login, who, claims, body.password, code, begin, may_lack=True)


async def confirm(login: LoginContext, who: Principal, claims: Claims, code: str) -> RecoveryCodes:
    """The secret that was begun is in force from now on, and the code of it is used up. Ends the user's other sign-ins.

    Raises errors.Invalid for a wrong code, NoSecondFactor, errors.TooMany."""
    await limits.count_enrolment(login.database, claims.user_id)
    async with login.database.write() as db:
        replaces = await _locked(db, claims)
        statement = select(SecondFactor.pending_secret, UNIX_TIME.label("now")).where(
            SecondFactor.user_id == claims.user_id, SecondFactor.pending_since > func.now() - PENDING
        )
        row = (await db.execute(statement)).one_or_none()
        if row is None:
            raise NoSecondFactor
        step = codes.matching_step(login.secret_box.open(row.pending_secret), codes.plain(code), now=row.now, after=0)
        outcome = None if step is None else await _take_effect(db, who, claims, row.pending_secret, step, replaces)
        if outcome is None:
            await record(db, who, "user.second_factor_failed", claims.user_id)
    if outcome is None:
        raise _wrong_code()
    new, ended = outcome
    login.tell(ended)
    return new


async def remove(login: LoginContext, who: Principal, claims: Claims, proof: SecondFactorProof) -> None:
    """Ends the user's other sign-ins. Raises errors.Invalid for a wrong password or code, NoSecondFactor,
    SecondFactorKept, errors.TooMany."""

    async def end(db: WriteSession, account: Account) -> list[UUID]:
        await remove_second_factor(db, account.id)
        values = {"second_factor_since": None, "version": User.version + 1}
        await db.execute(update(User).where(User.id == account.id).values(values))
        await record(db, who, "user.second_factor_removed", account.id)
        return await _end_others(db, claims, "second factor removed")

    async with login.database.read() as read:
        if await _is_required(read, who.role):
            raise SecondFactorKept
    login.tell(await _proven(login, who, claims, proof.password, proof.code, end))


async def renew_recovery_codes(
    login: LoginContext, who: Principal, claims: Claims, proof: SecondFactorProof
) -> RecoveryCodes:
    """New ones; those of before are worthless. Raises errors.Invalid for a wrong password or code, NoSecondFactor,
    errors.TooMany."""

    async def renew(db: WriteSession, account: Account) -> RecoveryCodes:
        await record(db, who, "user.recovery_codes_renewed", account.id)
        return await _new_recovery_codes(db, account.id)

    return await _proven(login, who, claims, proof.password, proof.code, renew)


async def _proven(
    login: LoginContext,
    who: Principal,
    claims: Claims,
    password: str,
    code: str | None,
    change: Callable[[WriteSession, Account], Awaitable[T]],
    *,
    may_lack: bool = False,
) -> T:
    """What `change` returns, in one transaction with the use of the code. With `may_lack`, a user without a second
    factor needs none.

    Raises errors.Invalid for a wrong password or code, NoSecondFactor, errors.TooMany, errors.Unauthorized if the
    sign-in was ended by now."""
    networks = networks_of(who.address)
    with login.passwords.slot() as slot:
        async with login.database.read() as read:
            account = await queries.account_by_id(read, claims.user_id, networks)
        attempt = await counted_attempt(login, account, networks)
        matches = await slot.verify(account.password_hash, password)
    if matches and code is not None:
        await limits.count_code(login.database, login.settings, account.id, attempt)
    async with login.database.write() as db:
        refusal = await _refusal(db, login, who, claims, account, code, matches=matches, may_lack=may_lack)
        outcome = refusal or await change(db, account)
        if isinstance(refusal, errors.Invalid):
            await record(db, who, "user.second_factor_failed", account.id)
    if isinstance(outcome, Refused):
        raise outcome
    await limits.reset_after_success(login.database, login.settings, attempt)
    await limits.reset_codes(login.database, account.id)
    return outcome


async def _refusal(
    db: WriteSession,
    login: LoginContext,
    who: Principal,
    claims: Claims,
    account: Account,
    code: str | None,
    *,
    matches: bool,
    may_lack: bool,
) -> Refused | None:
    """Why the user does not prove to be who they are; None if they do, and the code is used up. Returned, since the
    entry about it must commit."""
    if not matches:
        return errors.Invalid(None, Fault("is not your password", pointer="/password"))
    if not await _locked(db, claims, account.password_hash):
        return None if may_lack else NoSecondFactor()
    if code is None:
        return errors.Invalid(None, Fault("is missing: you have a second factor", pointer="/code"))
    return None if await use_code(db, login.secret_box, who, account.id, code) else _wrong_code()


def _wrong_code() -> errors.Invalid:
    return errors.Invalid(None, Fault("is not valid, or was used before: wait for the next one", pointer="/code"))


async def _locked(db: WriteSession, claims: Claims, password_hash: str | None = None) -> bool:
    """Whether the user has a second factor; it stays so until the transaction ends.

    Raises errors.Unauthorized if the user was deactivated, has another password or was signed out by now."""
    conditions = [User.id == claims.user_id, User.is_active]
    if password_hash is not None:
        conditions.append(queries.password_hash() == password_hash)
    statement = select(User.second_factor_since).where(*conditions).with_for_update(key_share=True)
    row = (await db.execute(statement)).one_or_none()
    if row is None or not await families.lock_if_live(db, claims.user_id, claims.family):
        raise rights_changed()
    return row.second_factor_since is not None


async def _take_effect(
    db: WriteSession, who: Principal, claims: Claims, sealed: str, step: int, replaces: bool
) -> tuple[RecoveryCodes, list[UUID]]:
    """The recovery codes, and the sign-ins that were ended."""
    values = {"secret": sealed, "last_step": step, "pending_secret": None, "pending_since": None}
    await db.execute(update(SecondFactor).where(SecondFactor.user_id == claims.user_id).values(values))
    since = {"second_factor_since": func.now(), "version": User.version + 1}
    await db.execute(update(User).where(User.id == claims.user_id).values(since))
    await db.execute(update(RefreshFamily).where(RefreshFamily.id == claims.family).values(second_factor=True))
    ended = await _end_others(db, claims, "second factor added")
    await record(db, who, "user.second_factor_added", claims.user_id, after={"replaces": replaces})
    return await _new_recovery_codes(db, claims.user_id), ended


async def _new_recovery_codes(db: WriteSession, user_id: int) -> RecoveryCodes:
    new = codes.new_recovery_codes()
    rows = [{"user_id": user_id, "digest": codes.recovery_digest(codes.plain(code))} for code in new]
    await db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    await db.execute(insert(RecoveryCode).values(rows))
    return RecoveryCodes(new)


async def _end_others(db: WriteSession, claims: Claims, reason: str) -> list[UUID]:
    """All sign-ins of the user but this one: they were made by other rules."""
    others = (RefreshFamily.user_id == claims.user_id, RefreshFamily.id != claims.family)
    return await families.revoke(db, reason, *others)


async def _is_required(db: Session, role: str) -> bool:
    least = (await company_settings(db)).second_factor_from
    return least is not None and Role(role).includes(least)
