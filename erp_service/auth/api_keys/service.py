"""Making and revoking API keys. Each in the caller's transaction."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import func, insert, select, update

from erp_service import errors
from erp_service.access import key_format
from erp_service.access.principals import Principal
from erp_service.access.scopes import Scope
from erp_service.audit.record import record
from erp_service.auth import queries as user_queries
from erp_service.auth import users
from erp_service.auth.api_keys.models import ApiKey
from erp_service.auth.api_keys.problems import KeyRoleTooHigh, TooManyKeys
from erp_service.auth.api_keys.queries import IS_ACTIVE, KEY_COLUMNS, api_key, as_key
from erp_service.auth.api_keys.schemas import ApiKeyOut, CreatedApiKey, NewApiKey
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault

MOST_ACTIVE = 500
"""Keys of the company that are neither revoked nor expired: every instance may hold all of them in memory."""

LONGEST = timedelta(days=5 * 366)


def _audited(key: ApiKeyOut) -> dict[str, Any]:
    """What the audit log keeps of a key."""
    names = ("name", "role", "scopes", "networks", "expires_at", "hint")
    return {name: getattr(key, name) for name in names}


async def create(db: WriteSession, who: Principal, new: NewApiKey) -> CreatedApiKey:
    """Raises KeyRoleTooHigh, TooManyKeys, errors.Invalid for `expires_at`; what users.present_role raises."""
    if who.user_id is None:
        raise errors.Forbidden("An API key acts for a person.")
    # takes the lock on all users: of two that are made at once, the second sees the first
    role = await users.present_role(db, who)
    if not role.includes(new.role):
        raise KeyRoleTooHigh(f"Your role is {role}, and the key's would be {new.role}.")
    _check_expiry(new.expires_at)
    if await db.scalar(select(func.count()).select_from(ApiKey).where(IS_ACTIVE)) >= MOST_ACTIVE:
        raise TooManyKeys(f"There may be {MOST_ACTIVE}.")
    key = key_format.new_key()
    values = {
        "user_id": who.user_id,
        "name": new.name,
        "role": new.role,
        "scopes": [scope for scope in Scope if scope in new.scopes],
        "networks": None if new.networks is None else list(dict.fromkeys(new.networks)),
        "digest": key_format.digest(key),
        "hint": key_format.hint(key),
        "expires_at": new.expires_at,
    }
    made = as_key(*(await db.execute(insert(ApiKey).values(values).returning(*KEY_COLUMNS))).one())
    await record(db, who, "api_key.created", made.id, after=_audited(made))
    return CreatedApiKey(**msgspec.structs.asdict(made), key=key)


def _check_expiry(expires_at: datetime | None) -> None:
    """Raises errors.Invalid."""
    if expires_at is None:
        return
    now = datetime.now(UTC)
    if not now < expires_at <= now + LONGEST:
        last = (now + LONGEST).date()
        raise errors.Invalid(None, Fault(f"must lie in the future, and not after {last}", pointer="/expires_at"))


async def lock_for_update(db: WriteSession, who: Principal, key_id: int) -> ApiKeyOut:
    """The key, which nobody else revokes until the transaction ends. Whoever made it may revoke it, and whoever may
    change its maker. Raises errors.NotFound, RoleOutOfReach."""
    role = await users.present_role(db, who)
    await db.execute(select(ApiKey.id).where(ApiKey.id == key_id).with_for_update(key_share=True))
    key = await api_key(db, key_id)
    if key.user_id != who.user_id:
        maker, _ = await user_queries.user(db, key.user_id)
        users.require_reach(role, maker.role)
    return key


async def revoke(db: WriteSession, who: Principal, key: ApiKeyOut) -> None:
    """A trigger notifies all instances with the commit. To revoke a key again changes nothing."""
    if key.revoked_at is not None:
        return
    values = {"revoked_at": func.now(), "revoked_by": who.user_id}
    await db.execute(update(ApiKey).where(ApiKey.id == key.id).values(values))
    await record(db, who, "api_key.revoked", key.id, before=_audited(key), on_behalf_of=key.user_id)
