"""Users and their access tokens, made without the API."""

import itertools
from uuid import uuid4

from sqlalchemy import insert

from erp_service.access.roles import Role
from erp_service.auth.emails import email_key
from erp_service.auth.models import User
from erp_service.auth.tokens import Claims, Tokens
from erp_service.db.engine import Database
from erp_service.settings import Settings

_numbers = itertools.count()


async def make_user(database: Database, role: Role, email: str | None = None, password_hash: str = "!") -> int:
    email = email or f"{role.lower()}{next(_numbers)}@example.com"
    values = {
        "email": email,
        "email_key": email_key(email),
        "full_name": f"{role.title()} Person",
        "role": role,
        "password_hash": password_hash,
    }
    async with database.write() as db:
        user_id: int = await db.scalar(insert(User).values(values).returning(User.id))
    return user_id


def token_of(settings: Settings, user_id: int, version: int = 1) -> str:
    """Each is of a sign-in of its own, so that a test that ends it ends no other."""
    return Tokens(settings).issue(Claims(user_id, version, uuid4()))
