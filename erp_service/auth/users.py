"""Users: who may make, change, deactivate and promote whom. Every change and its audit entry are one transaction."""

import asyncio
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_skip

from erp_service import errors
from erp_service.access.principals import Principal, system
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.auth import passwords, queries, sessions
from erp_service.auth.models import User
from erp_service.auth.passwords import HashSlot
from erp_service.auth.problems import LastSuperAdmin, OwnAccount, RoleOutOfReach
from erp_service.auth.queries import COLUMNS, as_user
from erp_service.auth.schemas import NewUser, RoleChange, UserChange, UserOut
from erp_service.auth.sessions import LoginContext
from erp_service.db import locks
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession


class LockedUser(msgspec.Struct, frozen=True):
    """A user whose row is locked until the end of the transaction, and whom the caller, being `acting`, may handle."""

    user: UserOut
    version: int
    acting: Role


def snapshot(user: UserOut) -> dict[str, Any]:
    """What the audit log says of a user."""
    return {"email": user.email, "full_name": user.full_name, "role": user.role, "is_active": user.is_active}


async def register(db: WriteSession, who: Principal, place: HashSlot, new: NewUser) -> UserOut:
    """Make a user as an administrator may. Raises RoleOutOfReach, EmailTaken, errors.Invalid for a weak password."""
    _in_reach(who.role, new.role)
    sessions.refuse_weak(new.password, new.email, "/password")
    password_hash = await place.hash(new.password)
    return await create_user(
        db, who, email=new.email, full_name=new.full_name, role=new.role, password_hash=password_hash
    )


async def create_user(
    db: WriteSession, who: Principal, *, email: str, full_name: str, role: Role, password_hash: str
) -> UserOut:
    """Raises EmailTaken, by the name of the constraint."""
    values = {"email": email, "full_name": full_name, "role": role, "password_hash": password_hash}
    made = as_user(*(await db.execute(insert(User).values(values).returning(*COLUMNS))).one())
    await record(db, who, "user.created", made.id, after=snapshot(made))
    return made


async def first_super_admin(database: Database, email: str, password: str) -> bool:
    """Make a SUPER_ADMIN unless an active one is there; whether it did. Of several at once, one makes it."""
    password_hash = await asyncio.to_thread(passwords.hashed, password)
    async with database.write() as db:
        await locks.take(db, locks.USERS)
        if await _other_super_admins(db, besides=0):
            return False
        values = {"email": email, "full_name": "First administrator", "role": Role.SUPER_ADMIN}
        values["password_hash"] = password_hash
        statement = insert_or_skip(User).values(values).on_conflict_do_nothing()
        row = (await db.execute(statement.returning(*COLUMNS))).one_or_none()
        if row is None:
            return False
        made = as_user(*row)
        await record(db, system("erp up"), "user.created", made.id, after=snapshot(made), reason="the first user")
        return True


async def lock_for_update(db: WriteSession, who: Principal, user_id: int) -> LockedUser:
    """The user as they are, until the transaction ends. Raises errors.NotFound, RoleOutOfReach.

    The caller's role is read anew, under the lock: of two who demote each other at once, the second has lost it."""
    await locks.take(db, locks.USERS)
    role = who.role
    if who.user_id is not None:
        authority = await queries.authority(db, who.user_id)
        if authority is None or not authority.active:
            raise errors.Unauthorized("You were deactivated at this moment.")
        role = authority.role
    statement = select(*COLUMNS, User.version).where(User.id == user_id).with_for_update(key_share=True)
    row = (await db.execute(statement)).one_or_none()
    if row is None:
        raise errors.NotFound
    user = as_user(*row[:-1])
    _in_reach(role, user.role)
    return LockedUser(user, row.version, role)


async def change(db: WriteSession, who: Principal, held: LockedUser, wanted: UserChange) -> LockedUser:
    """Raises OwnAccount, RoleOutOfReach, LastSuperAdmin, EmailTaken."""
    role = held.user.role if wanted.role is UNSET else wanted.role
    is_active = held.user.is_active if wanted.is_active is UNSET else wanted.is_active
    values = {"email": wanted.email, "full_name": wanted.full_name, "role": role, "is_active": is_active}
    return await _apply(db, who, held, "user.updated", values)


async def deactivate(db: WriteSession, who: Principal, held: LockedUser) -> LockedUser:
    """Raises OwnAccount, LastSuperAdmin."""
    return await _apply(db, who, held, "user.deactivated", {"is_active": False})


async def reactivate(db: WriteSession, who: Principal, held: LockedUser) -> LockedUser:
    return await _apply(db, who, held, "user.reactivated", {"is_active": True})


async def change_role(db: WriteSession, who: Principal, held: LockedUser, wanted: RoleChange) -> LockedUser:
    """Raises OwnAccount, RoleOutOfReach, LastSuperAdmin."""
    return await _apply(db, who, held, "user.role_changed", {"role": wanted.role}, reason=wanted.reason)


async def reset_password(gate: LoginContext, who: Principal, user_id: int, password: str) -> None:
    """Ends all sign-ins of the user. Raises OwnAccount: one's own is changed with the old one."""
    with gate.passwords.place() as place:
        async with gate.database.read() as read:
            user, _ = await queries.user(read, user_id)
        sessions.refuse_weak(password, user.email, "/new_password")
        password_hash = await place.hash(password)
    async with gate.database.write() as db:
        held = await lock_for_update(db, who, user_id)
        _not_oneself(who, held)
        values = {"password_hash": password_hash, "authority_version": User.authority_version + 1}
        await db.execute(update(User).where(User.id == user_id).values(values))
        await sessions.end_all(db, user_id, "password reset")
        await record(db, who, "user.password_reset", user_id)


async def _apply(
    db: WriteSession,
    who: Principal,
    held: LockedUser,
    action: str,
    values: dict[str, Any],
    *,
    reason: str | None = None,
) -> LockedUser:
    """Write what differs, with all that a change of authority brings with it; nothing at all if nothing differs."""
    before = held.user
    after = msgspec.structs.replace(before, **values)
    if after == before:
        return held
    authority_changed = (after.role, after.is_active) != (before.role, before.is_active)
    if authority_changed:
        await _authority_may_change(db, who, held, after)
        values = {**values, "authority_version": User.authority_version + 1}
    version = (
        await db.execute(
            update(User)
            .where(User.id == before.id)
            .values(values | {"version": User.version + 1})
            .returning(User.version)
        )
    ).scalar_one()
    if authority_changed:
        await sessions.end_all(db, before.id, action)
    await record(db, who, action, before.id, before=snapshot(before), after=snapshot(after), reason=reason)
    return msgspec.structs.replace(held, user=after, version=version)


async def _authority_may_change(db: WriteSession, who: Principal, held: LockedUser, after: UserOut) -> None:
    _not_oneself(who, held)
    _in_reach(held.acting, after.role)
    is_one = held.user.role is Role.SUPER_ADMIN and held.user.is_active
    stays_one = after.role is Role.SUPER_ADMIN and after.is_active
    if is_one and not stays_one and not await _other_super_admins(db, besides=held.user.id):
        raise LastSuperAdmin


async def _other_super_admins(db: WriteSession, *, besides: int) -> int:
    statement = select(func.count()).where(User.role == Role.SUPER_ADMIN, User.is_active, User.id != besides)
    return (await db.execute(statement)).scalar_one()


def _in_reach(own: Role, theirs: Role) -> None:
    if own is not Role.SUPER_ADMIN and theirs.includes(Role.ADMIN):
        raise RoleOutOfReach


def _not_oneself(who: Principal, held: LockedUser) -> None:
    if who.user_id == held.user.id:
        raise OwnAccount
