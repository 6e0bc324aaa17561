"""Reads of users."""

from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from erp_service import errors
from erp_service.access.principals import Authority
from erp_service.access.roles import Role
from erp_service.auth.models import User
from erp_service.auth.schemas import Redacted, UserOut, UserPage
from erp_service.db.pagination import SortKey, chosen, orders, page
from erp_service.db.sessions import ReadSession, Session

COLUMNS = (User.id, User.email, User.full_name, User.role, User.is_active, User.created_at, User.last_login_at)

_BY_ID = SortKey(User.id, "id", int)
_BY_EMAIL = SortKey(User.email, "email", str)
_BY_CREATED_AT = SortKey(User.created_at, "created_at", datetime)
SORTS = orders({"id": _BY_ID, "email": _BY_EMAIL, "created_at": _BY_CREATED_AT}, unique=_BY_ID)


class Account(Redacted, frozen=True):
    """What signing in looks at; not for any answer."""

    id: int
    email: str
    password_hash: str


async def authority(db: Session, user_id: int) -> Authority | None:
    """What the user may do at this moment, by the primary."""
    statement = select(User.id, User.role, User.is_active, User.authority_version).where(User.id == user_id)
    row = (await db.execute(statement)).one_or_none()
    return row and Authority(row.id, Role(row.role), row.is_active, row.authority_version)


async def authorities(db: Session, user_ids: list[int]) -> dict[int, Authority]:
    """The same of several; who is no user is missing."""
    columns = (User.id, User.role, User.is_active, User.authority_version)
    asked = bindparam("ids", user_ids, ARRAY(BigInteger))
    rows = await db.execute(select(*columns).where(User.id == func.any(asked)))
    return {row.id: Authority(row.id, Role(row.role), row.is_active, row.authority_version) for row in rows}


async def user(db: Session, user_id: int) -> tuple[UserOut, int]:
    """The user, and the version of what is said; raises errors.NotFound."""
    row = (await db.execute(select(*COLUMNS, User.version).where(User.id == user_id))).one_or_none()
    if row is None:
        raise errors.NotFound
    return as_user(*row[:-1]), row.version


async def users(
    db: ReadSession,
    *,
    role: Role | None,
    is_active: bool | None,
    q: str | None,
    sort: str | None,
    limit: int,
    cursor: str | None,
) -> UserPage:
    statement = select(*COLUMNS)
    if role is not None:
        statement = statement.where(User.role == role)
    if is_active is not None:
        statement = statement.where(User.is_active == is_active)
    if q is not None:
        statement = statement.where(
            User.email.icontains(q, autoescape=True) | User.full_name.icontains(q, autoescape=True)
        )
    order = chosen(SORTS, sort, default="id")
    return await page(db, statement, as_user, order, limit=limit, cursor=cursor, into=UserPage)


async def account_of_email(db: Session, email: str) -> Account | None:
    return await _account(db, func.lower(User.email) == func.lower(email))


async def account_of_user(db: Session, user_id: int) -> Account:
    """Raises errors.NotFound."""
    if (found := await _account(db, User.id == user_id)) is None:
        raise errors.NotFound
    return found


async def _account(db: Session, condition: ColumnElement[bool]) -> Account | None:
    row = (await db.execute(select(User.id, User.email, User.password_hash).where(condition))).one_or_none()
    return row and Account(*row)


def as_user(
    user_id: int,
    email: str,
    full_name: str,
    role: str,
    is_active: bool,
    created_at: datetime,
    last_login_at: datetime | None,
) -> UserOut:
    """Of COLUMNS."""
    return UserOut(user_id, email, full_name, Role(role), is_active, created_at, last_login_at)
