"""Reads of users."""

from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, Text, bindparam, exists, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from erp_service import errors
from erp_service.access.principals import Authority
from erp_service.access.roles import Role
from erp_service.auth.emails import email_key
from erp_service.auth.login.networks import Networks
from erp_service.auth.models import LoginNetwork, User
from erp_service.auth.schemas import Redacted, UserOut, UserPage
from erp_service.company.settings import company_settings
from erp_service.db.base import has
from erp_service.db.pagination import SortKey, chosen, orders, page
from erp_service.db.sessions import ReadSession, Session

USER_COLUMNS = (
    User.id,
    User.email,
    User.full_name,
    User.role,
    User.is_active,
    User.created_at,
    User.last_login_at,
    User.second_factor_since,
)
"""What `as_user` takes, in this order."""

_AUTHORITY_COLUMNS = (
    User.id,
    User.role,
    User.is_active,
    User.authority_version,
    User.must_change_password,
    User.second_factor_since,
)

_BY_ID = SortKey(User.id, "id", int)
_BY_EMAIL = SortKey(User.email.collate("C"), "email", str)
_BY_CREATED_AT = SortKey(User.created_at, "created_at", datetime)
SORTS = orders({"id": _BY_ID, "email": _BY_EMAIL, "created_at": _BY_CREATED_AT}, unique=_BY_ID)


class Account(Redacted, frozen=True):
    """What sign-in reads of a user. It has the password's hash, so it is never part of a response."""

    id: int
    email: str
    password_hash: str
    full_name: str
    known_network: bool
    """They have signed in from the customer's network before."""


async def authority(db: Session, user_id: int) -> Authority | None:
    """What the user may do now; None if there is no such user."""
    return (await authorities(db, [user_id])).get(user_id)


async def authorities(db: Session, user_ids: list[int]) -> dict[int, Authority]:
    """What each of these users may do now, by user id. An id without a user is missing from the result."""
    ids = bindparam("ids", user_ids, ARRAY(BigInteger))
    least = (await company_settings(db)).second_factor_from
    rows = await db.execute(select(*_AUTHORITY_COLUMNS).where(User.id == func.any(ids)))
    return {row.id: _as_authority(least, *row) for row in rows}


def _as_authority(
    least: Role | None,
    user_id: int,
    role: str,
    active: bool,
    version: int,
    must_change_password: bool,
    second_factor_since: datetime | None,
) -> Authority:
    """The authority of the user whose row has these values of _AUTHORITY_COLUMNS; users of the role `least`, or of a
    higher one, must have a second factor."""
    must_have = least is not None and Role(role).includes(least)
    needs_one = must_have and second_factor_since is None
    return Authority(user_id, Role(role), active, version, must_change_password, needs_one)


async def user(db: Session, user_id: int) -> tuple[UserOut, int]:
    """The user and their version, as for an ETag. Raises errors.NotFound."""
    row = (await db.execute(select(*USER_COLUMNS, User.version).where(User.id == user_id))).one_or_none()
    if row is None:
        raise errors.NotFound
    return as_user(*row[:-1]), row.version


async def user_id_by_email(db: Session, email: str) -> int:
    """Raises errors.NotFound."""
    user_id: int | None = await db.scalar(select(User.id).where(User.email_key == email_key(email)))
    if user_id is None:
        raise errors.NotFound(f"No user has the e-mail {email}.")
    return user_id


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
    """One page. `q` is a part of the e-mail or of the name, in any case; `sort` is a name of SORTS."""
    statement = select(*USER_COLUMNS)
    if role is not None:
        statement = statement.where(User.role == role)
    if is_active is not None:
        statement = statement.where(User.is_active == is_active)
    if q is not None:
        statement = statement.where(has(func.erp_fold(User.email + "\n" + User.full_name), q))
    order = chosen(SORTS, sort, default="id")
    return await page(db, statement, as_user, order, limit=limit, cursor=cursor, into=UserPage)


async def account_by_email(db: Session, email: str, networks: Networks) -> Account | None:
    """None if no user has this e-mail, as `email_key` compares them."""
    return await _account(db, User.email_key == email_key(email), networks)


async def account_by_id(db: Session, user_id: int, networks: Networks) -> Account:
    """Raises errors.NotFound."""
    if (account := await _account(db, User.id == user_id, networks)) is None:
        raise errors.NotFound
    return account


def password_hash() -> ColumnElement[str]:
    """The hash of the user in the row: the service's role reads it by this function alone, not from the column."""
    return func.erp_password_hash(User.id, type_=Text)


async def _account(db: Session, condition: ColumnElement[bool], networks: Networks) -> Account | None:
    # one statement, which takes as long for an e-mail that nobody has
    known = exists().where(LoginNetwork.user_id == User.id, LoginNetwork.network == networks.customer)
    statement = select(User.id, User.email, password_hash(), User.full_name, known).where(condition)
    row = (await db.execute(statement)).one_or_none()
    return row and Account(*row)


def as_user(
    user_id: int,
    email: str,
    full_name: str,
    role: str,
    is_active: bool,
    created_at: datetime,
    last_login_at: datetime | None,
    second_factor_since: datetime | None,
) -> UserOut:
    """The user whose row has these values of USER_COLUMNS."""
    has_second_factor = second_factor_since is not None
    return UserOut(user_id, email, full_name, Role(role), is_active, created_at, last_login_at, has_second_factor)
