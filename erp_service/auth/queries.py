"""Reads of users."""

from sqlalchemy import select

from erp_service.auth.models import User
from erp_service.db import Session
from erp_service.principals import Authority
from erp_service.roles import Role


async def authority(db: Session, user_id: int) -> Authority | None:
    """What the user may do at this moment, by the primary."""
    statement = select(User.id, User.role, User.is_active, User.authority_version).where(User.id == user_id)
    row = (await db.execute(statement)).one_or_none()
    return row and Authority(row.id, Role(row.role), row.is_active, row.authority_version)
