"""What a route that creates a user is given: the hash of the password, and only then the transaction.

A request that waits in the queue of the hashing threads must not hold a connection meanwhile."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Request
from litestar.di import NamedDependency, Provide

from erp_service.access.principals import Principal
from erp_service.auth import users
from erp_service.auth.login.context import LoginContext
from erp_service.auth.schemas import NewUser
from erp_service.db.sessions import WriteSession
from erp_service.web.idempotency import write_session


async def _password_hash(
    request: Request[Any, Any, Any], who: NamedDependency[Principal], login: NamedDependency[LoginContext]
) -> str:
    # not a parameter `data`: the framework allows none in a dependency of a dependency
    new: NewUser = await request.json()
    with login.passwords.slot() as slot:
        return await users.hash_of_new(who, slot, new)


async def _write_session(
    request: Request[Any, Any, Any], who: NamedDependency[Principal], password_hash: NamedDependency[str]
) -> AsyncGenerator[WriteSession, None]:
    """That it takes the hash makes the framework compute that first."""
    async with asynccontextmanager(write_session)(request, who) as db:
        yield db


HASHED_FIRST = {"password_hash": Provide(_password_hash), "write": Provide(_write_session)}
"""The `dependencies` of such a route."""
