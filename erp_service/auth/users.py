"""Users: who may create, change, deactivate and promote whom. A change and its audit entry are one transaction."""

import asyncio
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_skip

from erp_service import errors
from erp_service.access.principals import Principal, command
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.auth import passwords, queries, sessions
from erp_service.auth.api_keys.queries import is_active
from erp_service.auth.credentials import refuse_unprepared
from erp_service.auth.emails import email_key
from erp_service.auth.login.context import LoginContext
from erp_service.auth.login.networks import forget
from erp_service.auth.models import User
from erp_service.auth.passwords import HashSlot
from erp_service.auth.problems import LastSuperAdmin, OwnAccount, RoleOutOfReach
from erp_service.auth.queries import USER_COLUMNS, as_user
from erp_service.auth.schemas import NewUser, RoleChange, UserChange, UserOut
from erp_service.auth.second_factor.check import remove_second_factor
from erp_service.db import locks
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession


class LockedUser(msgspec.Struct, frozen=True):
    """A user whose row is locked until the end of the transaction, and whom the caller may change. `caller_role` is the
    caller's role, read under the lock."""

    user: UserOut
    version: int
    caller_role: Role


def _audited(user: UserOut) -> dict[str, Any]:
    """What the audit log keeps of a user."""
    return {"email": user.email, "full_name": user.full_name, "role": user.role, "is_active": user.is_active}


async def hash_of_new(who: Principal, slot: HashSlot, new: NewUser) -> str:
    """The hash of a new user's password, to be computed before the transaction.

    Raises RoleOutOfReach if the caller may not grant the role, errors.Invalid for a weak password."""
    require_reach(who.role, new.role)
    sessions.refuse_weak(new.password, new.email, "/password", full_name=new.full_name)
    return await slot.hash(new.password)


async def register(db: WriteSession, who: Principal, new: NewUser, password_hash: str) -> UserOut:
    """Create a user whose password has the hash that `hash_of_new` returned. Raises EmailTaken, RoleOutOfReach.

    The caller's role is read again, since the request may have waited long for a hashing thread."""
    await present_role(db, who)
    return await create_user(
        db,
        who,
        email=str(new.email),
        full_name=new.full_name,
        role=new.role,
        password_hash=password_hash,
        temporary=new.must_change_password,
    )


async def create_user(
    db: WriteSession,
    who: Principal,
    *,
    email: str,
    full_name: str,
    role: Role,
    password_hash: str,
    temporary: bool = False,
) -> UserOut:
    """With `temporary`, the user must change the password, which somebody else knows, within TEMPORARY_PASSWORD_DAYS.

    Raises UniqueViolationError for the constraint `users_email_key`, which routes answer with EmailTaken."""
    values = {"email": email, "email_key": email_key(email), "full_name": full_name, "role": role}
    values |= {"password_hash": password_hash, **(_temporary() if temporary else {})}
    user = as_user(*(await db.execute(insert(User).values(values).returning(*USER_COLUMNS))).one())
    await record(db, who, "user.created", user.id, after=_audited(user))
    return user


async def first_super_admin(database: Database, email: str, password: str) -> bool:
    """Create a SUPER_ADMIN unless there is an active one. Returns whether it did; of several at once, one does."""
    password_hash = await asyncio.to_thread(passwords.hashed, password)
    async with database.write() as db:
        await locks.take(db, locks.USERS)
        if await _active_super_admins(db, except_id=0):
            return False
        values = {"email": email, "full_name": "First administrator", "role": Role.SUPER_ADMIN}
        values |= {"email_key": email_key(email), "password_hash": password_hash}
        statement = insert_or_skip(User).values(values).on_conflict_do_nothing()
        row = (await db.execute(statement.returning(*USER_COLUMNS))).one_or_none()
        if row is None:
            return False
        user = as_user(*row)
        await record(db, command("erp up"), "user.created", user.id, after=_audited(user), reason="the first user")
        return True


async def lock_for_update(db: WriteSession, who: Principal, user_id: int) -> LockedUser:
    """Lock the user's row until the transaction ends. Raises errors.NotFound, RoleOutOfReach.

    The caller's role is read again, under the lock: of two who demote each other at once, the second is refused."""
    caller_role = await present_role(db, who)
    statement = select(*USER_COLUMNS, User.version).where(User.id == user_id).with_for_update(key_share=True)
    row = (await db.execute(statement)).one_or_none()
    if row is None:
        raise errors.NotFound
    user = as_user(*row[:-1])
    require_reach(caller_role, user.role)
    return LockedUser(user, row.version, caller_role)


async def present_role(db: WriteSession, who: Principal) -> Role:
    """The caller's role under the lock on all users, which this takes; with an API key, that of the key at most.

    Raises errors.Unauthorized if the caller is no longer active, has a new password, or came with a key that was
    revoked; errors.PasswordChangeRequired or errors.SecondFactorRequired if they must do that first; RoleOutOfReach if
    the role is lower than when the request came."""
    await locks.take(db, locks.USERS)
    if who.user_id is None:
        return who.role
    authority = await queries.authority(db, who.user_id)
    if authority is None or not authority.active:
        raise errors.Unauthorized("You have just been deactivated.")
    if who.key is None:
        refuse_unprepared(authority, while_password_expired=False, without_second_factor=False)
    if not authority.role.includes(who.role):
        raise RoleOutOfReach
    if who.key is None:
        return authority.role
    if not await is_active(db, who.key.id):
        raise errors.Unauthorized("The API key has just been revoked.")
    return who.role


async def change(db: WriteSession, who: Principal, locked: LockedUser, body: UserChange) -> LockedUser:
    """Raises OwnAccount, RoleOutOfReach, LastSuperAdmin, EmailTaken."""
    role = locked.user.role if body.role is UNSET else body.role
    is_active = locked.user.is_active if body.is_active is UNSET else body.is_active
    values = {"email": str(body.email), "full_name": body.full_name, "role": role, "is_active": is_active}
    return await _apply(db, who, locked, "user.updated", values)


async def deactivate(db: WriteSession, who: Principal, locked: LockedUser) -> LockedUser:
    """Raises OwnAccount, LastSuperAdmin."""
    return await _apply(db, who, locked, "user.deactivated", {"is_active": False})


async def reactivate(db: WriteSession, who: Principal, locked: LockedUser) -> LockedUser:
    return await _apply(db, who, locked, "user.reactivated", {"is_active": True})


async def change_role(db: WriteSession, who: Principal, locked: LockedUser, body: RoleChange) -> LockedUser:
    """Raises OwnAccount, RoleOutOfReach, LastSuperAdmin."""
    return await _apply(db, who, locked, "user.role_changed", {"role": body.role}, reason=body.reason)


async def reset_password(login: LoginContext, who: Principal, user_id: int, password: str) -> None:
    """Set another user's password, which they must change at their next sign-in, and end all their sign-ins.

    Raises OwnAccount (one's own password is changed with `sessions.change_password`), RoleOutOfReach, errors.NotFound,
    errors.Invalid for a weak password."""
    with login.passwords.slot() as slot:
        async with login.database.read() as read:
            user, _ = await queries.user(read, user_id)
        sessions.refuse_weak(password, user.email, "/new_password", full_name=user.full_name)
        password_hash = await slot.hash(password)
    async with login.database.write() as db:
        locked = await lock_for_update(db, who, user_id)
        _refuse_own_account(who, locked)
        values = {"password_hash": password_hash, **_temporary(), "authority_version": User.authority_version + 1}
        await db.execute(update(User).where(User.id == user_id).values(values))
        await sessions.end_all(db, user_id, "password reset")
        await forget(db, user_id)
        await record(db, who, "user.password_reset", user_id, on_behalf_of=user_id)


TEMPORARY_PASSWORD_DAYS = 7
"""How long somebody can sign in with a password that another has set."""


def _temporary() -> dict[str, Any]:
    """The values of a password that somebody else knows."""
    expires_at = func.now() + func.make_interval(0, 0, 0, TEMPORARY_PASSWORD_DAYS)
    return {"must_change_password": True, "password_set_at": func.now(), "password_expires_at": expires_at}


async def reset_second_factor(db: WriteSession, who: Principal, user_id: int, reason: str) -> bool:
    """For whoever has lost device and recovery codes: the password alone is enough again. Ends all their sign-ins.
    Returns whether there was a second factor; without one, nothing is changed.

    Raises OwnAccount (one's own is removed with a code), RoleOutOfReach, errors.NotFound."""
    locked = await lock_for_update(db, who, user_id)
    _refuse_own_account(who, locked)
    if not locked.user.second_factor:
        return False
    await remove_second_factor(db, user_id)
    values = {"second_factor_since": None, "authority_version": User.authority_version + 1, "version": User.version + 1}
    await db.execute(update(User).where(User.id == user_id).values(values))
    await sessions.end_all(db, user_id, "second factor reset")
    await record(db, who, "user.second_factor_reset", user_id, reason=reason, on_behalf_of=user_id)
    return True


async def _apply(
    db: WriteSession,
    who: Principal,
    locked: LockedUser,
    action: str,
    values: dict[str, Any],
    *,
    reason: str | None = None,
) -> LockedUser:
    """Write the values and the audit entry; nothing at all if no value differs.

    A change of role or activation also raises authority_version and ends all sign-ins of the user."""
    before = locked.user
    after = msgspec.structs.replace(before, **values)
    if after == before:
        return locked
    authority_changed = (after.role, after.is_active) != (before.role, before.is_active)
    if authority_changed:
        await _check_authority_change(db, who, locked, after)
        values = {**values, "authority_version": User.authority_version + 1}
    if after.email != before.email:
        values = {**values, "email_key": email_key(after.email)}
    version = await db.scalar(
        update(User).where(User.id == before.id).values(values | {"version": User.version + 1}).returning(User.version)
    )
    if authority_changed:
        await sessions.end_all(db, before.id, action)
    await record(db, who, action, before.id, before=_audited(before), after=_audited(after), reason=reason)
    return msgspec.structs.replace(locked, user=after, version=version)


async def _check_authority_change(db: WriteSession, who: Principal, locked: LockedUser, after: UserOut) -> None:
    """Raises OwnAccount, RoleOutOfReach, LastSuperAdmin."""
    _refuse_own_account(who, locked)
    require_reach(locked.caller_role, after.role)
    was_super_admin = locked.user.role is Role.SUPER_ADMIN and locked.user.is_active
    is_super_admin = after.role is Role.SUPER_ADMIN and after.is_active
    if was_super_admin and not is_super_admin and not await _active_super_admins(db, except_id=locked.user.id):
        raise LastSuperAdmin


async def _active_super_admins(db: WriteSession, *, except_id: int) -> int:
    """How many there are, not counting the user with this id."""
    statement = select(func.count()).where(User.role == Role.SUPER_ADMIN, User.is_active, User.id != except_id)
    count: int = await db.scalar(statement)
    return count


def require_reach(caller_role: Role, role: Role) -> None:
    """Raises RoleOutOfReach if the caller may neither change a user of this role nor grant it."""
    if caller_role is not Role.SUPER_ADMIN and role.includes(Role.ADMIN):
        raise RoleOutOfReach


def _refuse_own_account(who: Principal, locked: LockedUser) -> None:
    """Raises OwnAccount."""
    if who.user_id == locked.user.id:
        raise OwnAccount
