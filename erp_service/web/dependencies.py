"""What handlers get by name: a read session, the principal, and each of the services that the app was composed with.

The one module that reads the `state` of the framework's app, which has no types."""

from collections.abc import Callable
from typing import Any

from litestar import Litestar, Request

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.db.sessions import ReadSession
from erp_service.observability import telemetry
from erp_service.registry.services import ServiceSet


def services_of(app: Litestar) -> ServiceSet:
    """The services that the app was composed with."""
    return app.state["services"]  # type: ignore[no-any-return]


def service(name: str) -> Callable[[Request[Any, Any, Any]], Any]:
    """A dependency that returns one field of the services; a test compares each handler's annotation with its type."""

    def provided(request: Request[Any, Any, Any]) -> Any:
        return getattr(services_of(request.app), name)

    return provided


def read_session(request: Request[Any, Any, Any]) -> ReadSession:
    """The dependency `read`: on the primary. It holds no connection between its statements."""
    return services_of(request.app).find(Database).reader


def principal(request: Request[Any, Any, Any]) -> Principal:
    """The dependency `who`. It cannot fail where a role is declared, so it cannot make the session of the same handler
    leak."""
    return request.user  # type: ignore[no-any-return]


def anonymous(request: Request[Any, Any, Any]) -> Principal:
    """A caller who has not signed in yet."""
    client = request.client
    return Principal(None, Role.VIEWER, telemetry.request_id(request.scope), client.host if client else None)
