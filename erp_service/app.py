"""create_app: the one page that lists routers, middleware in order, plugins and lifespan."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from time import perf_counter
from typing import Any

from litestar import Litestar, MediaType
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import ASGIMiddleware, DefineMiddleware
from litestar.params import FromPath
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from erp_service import documents, errors, health, idempotency, problems, telemetry
from erp_service.audit import routes as audit_routes
from erp_service.auth import queries as auth_queries
from erp_service.auth import routes as auth_routes
from erp_service.auth import user_routes
from erp_service.auth.bearer import BearerAuth
from erp_service.auth.passwords import Passwords
from erp_service.auth.sessions import Gate
from erp_service.auth.tokens import Tokens
from erp_service.db import Database
from erp_service.exports import routes as export_routes
from erp_service.exports import schedule_routes
from erp_service.exports.storage.registry import open_store, store_known
from erp_service.health import Readiness
from erp_service.inventory import item_routes, location_routes, read_routes, stock_routes
from erp_service.notices import Notices
from erp_service.principals import Authorities, Authority
from erp_service.routing import PUBLIC, Answer, ApiRequest, RolesDeclared, get, principal, read_session
from erp_service.settings import Settings, require_secret

ROUTES: list[Any] = [
    *auth_routes.ROUTES,
    *user_routes.ROUTES,
    *audit_routes.ROUTES,
    *item_routes.ROUTES,
    *location_routes.ROUTES,
    *read_routes.ROUTES,
    *stock_routes.ROUTES,
    *export_routes.ROUTES,
    *schedule_routes.ROUTES,
    *health.ROUTES,
]


class Timed(ASGIMiddleware):
    """Marks the start of a request, and binds its id into every log line until its end."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["state"]["started"] = perf_counter()
        with telemetry.bound(request_id=telemetry.request_id(scope)):
            await next_app(scope, receive, send)


class Outlived(ASGIMiddleware):
    """A request that outlives the grace of a drain is told so; uvicorn, which cancels it, would say a bare 500."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        began = False

        async def noting(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await next_app(scope, receive, noting)
        except asyncio.CancelledError:
            if began:
                raise
            why = errors.Unavailable("This instance stops, and the request took too long for it. Another will answer.")
            await problems.send_bare(why, scope, send)


@get("/problems", role=PUBLIC, include_in_schema=False, media_type=MediaType.HTML)
async def problem_index() -> str:
    return problems.index()


@get("/problems/{slug:str}", role=PUBLIC, include_in_schema=False, media_type=MediaType.HTML)
async def problem_page(slug: FromPath[str]) -> str:
    if (found := problems.page(slug)) is None:
        raise errors.NotFound
    return found


def create_app(settings: Settings) -> Litestar:
    """One instance. Raises SettingsError if tokens cannot be signed safely; connects to nothing before its lifespan."""
    require_secret(settings)
    database = Database(settings)
    notices = Notices(settings.listen_url)
    gate = Gate(settings, database, Passwords(), Tokens(settings))
    store = open_store(settings)
    state = {
        "settings": settings,
        "database": database,
        "notices": notices,
        "gate": gate,
        "tokens": gate.tokens,
        "authorities": Authorities(notices, _authority_of(database)),
        "store": store,
        "readiness": Readiness([store_known(database, store)]),
    }
    return Litestar(
        [*ROUTES, problem_index, problem_page, *documents.routes()],
        state=State(state),
        lifespan=[_running(database, notices, gate.passwords)],
        middleware=[Timed(), Outlived(), DefineMiddleware(BearerAuth, exclude_from_auth_key="exclude_from_auth")],
        before_send=[telemetry.before_send],
        dependencies={
            "read": Provide(read_session),
            "write": Provide(idempotency.write_session),
            "who": Provide(principal),
        },
        exception_handlers={**problems.HANDLERS, **idempotency.HANDLERS},
        request_class=ApiRequest,
        response_class=Answer,
        request_max_body_size=settings.body_limit,
        plugins=[RolesDeclared(), documents.Structs(), documents.Numbers()],
        openapi_config=documents.openapi(version("erp-service")),
        cors_config=_cors(settings),
        logging_config=None,
    )


def _authority_of(database: Database) -> Callable[[int], Awaitable[Authority | None]]:
    async def load(user_id: int) -> Authority | None:
        async with database.read() as db:
            return await auth_queries.authority(db, user_id)

    return load


def _running(database: Database, notices: Notices, passwords: Passwords) -> Callable[[Litestar], Any]:
    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        try:
            async with notices.listening():
                yield
        finally:
            passwords.close()
            await database.close()

    return lifespan


def _cors(settings: Settings) -> CORSConfig | None:
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if not origins:
        return None
    exposed = ["ETag", "Link", "Location", "Retry-After", "X-Request-Id", "Idempotency-Replayed", "Repr-Digest"]
    return CORSConfig(allow_origins=origins, expose_headers=exposed, allow_credentials=False)
