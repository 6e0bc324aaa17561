"""What handlers get by name: a read session, the principal, and each of the services that the app was composed with.

The one module that looks into the framework's `state`, which has no types."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State

from erp_service.access.principals import Principal
from erp_service.db.engine import Database
from erp_service.db.sessions import ReadSession
from erp_service.registry.services import ServiceSet


def services_of(app: Litestar) -> ServiceSet:
    """The services that the app was composed with."""
    return app.state["services"]  # type: ignore[no-any-return]


def service(name: str) -> Callable[[State], Any]:
    """A dependency that gives one field of the services; a test holds each handler's annotation to its type."""

    def provided(state: State) -> Any:
        return getattr(state["services"], name)

    return provided


async def read_session(request: Request[Any, Any, Any]) -> AsyncGenerator[ReadSession, None]:
    """The dependency `read`: at most one generator dependency stands in a handler (ExceptionGroup otherwise)."""
    async with services_of(request.app).find(Database).read() as db:
        yield db


async def principal(request: Request[Any, Any, Any]) -> Principal:
    """The dependency `who`; it cannot fail where a role is declared, so no session can leak beside it."""
    return request.user  # type: ignore[no-any-return]
