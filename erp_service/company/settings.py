"""What the company's owner decides while the service runs, kept in the database."""

import msgspec
from sqlalchemy import text

from erp_service.access.roles import Role
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared


class CompanySettings(msgspec.Struct, frozen=True, kw_only=True):
    """One field for each setting, with its default. Only what was changed is stored."""

    second_factor_from: Role | None = None
    """The least role whose users must have a second factor; None: nobody must."""


_SETTINGS = Prepared(text("select settings::text from company"))


async def company_settings(db: Session) -> CompanySettings:
    """As they are at this moment."""
    return msgspec.json.decode(await db.scalar(_SETTINGS), type=CompanySettings)
