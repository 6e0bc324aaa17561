"""The app with all its routes, put together without a database, and a walk over its handlers."""

from collections.abc import Iterator

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from erp_service.app import create_app
from erp_service.services import build_services
from erp_service.settings import Settings

SETTINGS = Settings(database_url="postgresql://nobody@/nowhere", jwt_secret="0123456789abcdefghijklmnopqrstuvwxyz")
APP = create_app(build_services(SETTINGS))


def handlers(app: Litestar = APP) -> Iterator[tuple[str, HTTPRouteHandler]]:
    """Each handler with the path of its route, but for those of OPTIONS, which the framework makes."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if "OPTIONS" not in handler.http_methods:
                    yield route.path, handler


def _name(route: tuple[str, HTTPRouteHandler]) -> str:
    path, handler = route
    return f"{'/'.join(sorted(handler.http_methods))} {path}"


# in an order of their own: the framework keeps some in sets, and each process of a parallel run must find the same
HANDLERS = sorted(handlers(), key=_name)
IDS = [_name(route) for route in HANDLERS]
