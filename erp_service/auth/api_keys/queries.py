"""Reads of API keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, Boolean, LargeBinary, bindparam, func, literal_column, select

from erp_service import errors
from erp_service.access.keys import KeyRights
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.api_keys.models import ApiKey
from erp_service.auth.api_keys.schemas import ApiKeyOut, ApiKeyPage, parse_network
from erp_service.auth.api_keys.validity import ACTIVE
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import ReadSession, Session
from erp_service.db.statements import Prepared

IS_ACTIVE = literal_column(ACTIVE, Boolean)
KEY_COLUMNS = (*(ApiKey.__table__.c[name] for name in ApiKeyOut.__struct_fields__ if name != "is_active"), IS_ACTIVE)
"""What `as_key` takes, in this order."""

_NEWEST_FIRST = SortOrder([SortKey(ApiKey.id, "id", int)], descending=True)

_RIGHTS_COLUMNS = (ApiKey.id, ApiKey.user_id, ApiKey.role, ApiKey.scopes, ApiKey.networks, ApiKey.expires_at)
_RIGHTS = Prepared(
    select(ApiKey.digest, *_RIGHTS_COLUMNS).where(
        ApiKey.digest == func.any(bindparam("digests", type_=ARRAY(LargeBinary))), IS_ACTIVE
    )
)
# without the digest, which workers may not read
_RIGHTS_BY_ID = Prepared(select(*_RIGHTS_COLUMNS).where(ApiKey.id == bindparam("id"), IS_ACTIVE))


async def rights(db: Session, digests: list[bytes]) -> dict[bytes, KeyRights]:
    """What the keys with these digests may be used for. One that was revoked, has expired, or was never
    made, is missing."""
    rows = await db.execute(_RIGHTS, {"digests": digests})
    return {row[0]: _as_rights(*row[1:]) for row in rows}


async def rights_by_id(db: Session, key_id: int) -> KeyRights | None:
    """What the key may be used for; None if it was revoked, has expired, or was never made."""
    row = (await db.execute(_RIGHTS_BY_ID, {"id": key_id})).one_or_none()
    return row and _as_rights(*row)


def _as_rights(
    key_id: int,
    user_id: int,
    role: str,
    scopes: Sequence[str],
    networks: Sequence[str] | None,
    expires_at: datetime | None,
) -> KeyRights:
    return KeyRights(
        id=key_id,
        user_id=user_id,
        role=Role(role),
        scopes=known_scopes(scopes),
        networks=None if networks is None else tuple(map(parse_network, networks)),
        expires_at=None if expires_at is None else expires_at.timestamp(),
    )


def known_scopes(names: Sequence[str]) -> frozenset[Scope]:
    """Without those that only a later version knows: during a roll, its keys come here too."""
    return frozenset(scope for scope in Scope if scope in names)


async def api_key(db: Session, key_id: int) -> ApiKeyOut:
    """Raises errors.NotFound."""
    row = (await db.execute(select(*KEY_COLUMNS).where(ApiKey.id == key_id))).one_or_none()
    if row is None:
        raise errors.NotFound(f"There is no API key {key_id}.")
    return as_key(*row)


async def api_keys(
    db: ReadSession, *, user_id: int | None, is_active: bool | None, limit: int, cursor: str | None
) -> ApiKeyPage:
    """One page, newest first."""
    statement = select(*KEY_COLUMNS)
    if user_id is not None:
        statement = statement.where(ApiKey.user_id == user_id)
    if is_active is not None:
        statement = statement.where(IS_ACTIVE if is_active else ~IS_ACTIVE)
    return await page(db, statement, as_key, _NEWEST_FIRST, limit=limit, cursor=cursor, into=ApiKeyPage)


async def is_active(db: Session, key_id: int) -> bool:
    """Whether the key was neither revoked nor has expired."""
    return await db.scalar(select(IS_ACTIVE).select_from(ApiKey).where(ApiKey.id == key_id)) is True


def as_key(*values: Any) -> ApiKeyOut:
    """The key whose row has these values of KEY_COLUMNS."""
    row = dict(zip(ApiKeyOut.__struct_fields__, values, strict=True))
    scopes = known_scopes(row.pop("scopes"))
    return ApiKeyOut(**{**row, "role": Role(row["role"]), "scopes": [scope for scope in Scope if scope in scopes]})


def version(key: ApiKeyOut) -> str:
    """For its ETag. A key changes when it expires, and when it is revoked; `last_used_at` is left out."""
    if key.revoked_at is not None:
        return f"{key.id}-revoked"
    return f"{key.id}-{'active' if key.is_active else 'expired'}"
