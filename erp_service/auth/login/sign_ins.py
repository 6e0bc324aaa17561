"""Sign-ins that are open: who sees them, and who ends them. Their ids are those of their families of refresh tokens."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.auth import queries, users
from erp_service.auth.login import families
from erp_service.auth.login.context import LoginContext
from erp_service.auth.models import RefreshFamily
from erp_service.auth.schemas import SignInOut, SignInPage
from erp_service.auth.tokens import Claims
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import ReadSession

_COLUMNS = (
    RefreshFamily.id,
    RefreshFamily.user_id,
    RefreshFamily.created_at,
    # none: the version before has made or refreshed it
    func.coalesce(RefreshFamily.last_used_at, RefreshFamily.created_at),
    RefreshFamily.expires_at,
    RefreshFamily.address,
    RefreshFamily.user_agent,
    RefreshFamily.second_factor,
)
# a UUIDv7 grows with time
_NEWEST_FIRST = SortOrder([SortKey(RefreshFamily.id, "id", UUID)], descending=True)


def _open() -> tuple[ColumnElement[bool], ...]:
    return RefreshFamily.revoked_at.is_(None), RefreshFamily.expires_at > func.now()


async def sign_ins(
    db: ReadSession, who: Principal, claims: Claims, user_id: int | None, *, limit: int, cursor: str | None
) -> SignInPage:
    """Those of the caller, or of the user with this id, newest first. `claims` are those of the caller's token.

    Raises errors.Forbidden and RoleOutOfReach for those of others, errors.NotFound for an id that no user has."""
    owner = claims.user_id if user_id is None else user_id
    if owner != who.user_id:
        if not who.role.includes(Role.ADMIN):
            raise errors.Forbidden("To see the sign-ins of others, your role must be ADMIN or a higher one.")
        user, _ = await queries.user(db, owner)
        users.require_reach(who.role, user.role)

    def as_sign_in(
        sign_in_id: UUID,
        owner: int,
        created_at: datetime,
        last_used_at: datetime,
        expires_at: datetime,
        address: str | None,
        user_agent: str | None,
        second_factor: bool,
    ) -> SignInOut:
        """The sign-in whose row has these values of _COLUMNS."""
        current = sign_in_id == claims.family
        return SignInOut(
            sign_in_id, owner, created_at, last_used_at, expires_at, address, user_agent, second_factor, current
        )

    statement = select(*_COLUMNS).where(RefreshFamily.user_id == owner, *_open())
    return await page(db, statement, as_sign_in, _NEWEST_FIRST, limit=limit, cursor=cursor, into=SignInPage)


async def end(login: LoginContext, who: Principal, sign_in_id: UUID) -> None:
    """One's own, or one of somebody whom the caller handles; its access tokens and signed addresses end with it.

    Raises errors.NotFound if it is not there, was ended, or belongs to somebody else and the caller is no ADMIN;
    RoleOutOfReach."""
    statement = select(RefreshFamily.user_id).where(RefreshFamily.id == sign_in_id, *_open())
    async with login.database.write() as db:
        owner = await db.scalar(statement)
        if owner is None or (owner != who.user_id and not who.role.includes(Role.ADMIN)):
            raise errors.NotFound
        if owner != who.user_id:
            await users.lock_for_update(db, who, owner)
        ended = await families.revoke(db, "ended", RefreshFamily.id == sign_in_id)
        if not ended:
            raise errors.NotFound
        action = {"sign_in": str(sign_in_id)}
        if owner == who.user_id:
            await record(db, who, "user.signed_out", owner, after=action)
        else:
            await record(db, who, "user.signed_out_by_another", owner, after=action, on_behalf_of=owner)
    login.tell(ended)


async def end_others(login: LoginContext, who: Principal, claims: Claims) -> None:
    """All of the caller's but the one that the request belongs to."""
    async with login.database.write() as db:
        others = (RefreshFamily.user_id == claims.user_id, RefreshFamily.id != claims.family)
        ended = await families.revoke(db, "ended", *others)
        if ended:
            await record(db, who, "user.signed_out", claims.user_id, after={"sign_ins": len(ended)})
    login.tell(ended)


async def end_all_of(login: LoginContext, who: Principal, user_id: int) -> None:
    """Raises errors.NotFound, RoleOutOfReach."""
    async with login.database.write() as db:
        await users.lock_for_update(db, who, user_id)
        ended = await families.revoke(db, "ended", RefreshFamily.user_id == user_id)
        if ended:
            after = {"sign_ins": len(ended)}
            await record(db, who, "user.signed_out_by_another", user_id, after=after, on_behalf_of=user_id)
    login.tell(ended)
