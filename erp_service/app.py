"""create_app: the one page that lists routers, middleware in order, plugins and lifespan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from time import perf_counter
from typing import Any

import msgspec
from litestar import Litestar, MediaType
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import ASGIMiddleware, DefineMiddleware
from litestar.params import FromPath
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from erp_service import documents, errors, health, idempotency, metrics, problem_answers, problems, telemetry, tracing
from erp_service.audit import routes as audit_routes
from erp_service.auth import routes as auth_routes
from erp_service.auth import user_routes
from erp_service.auth.bearer import BearerAuth
from erp_service.auth.lookups import Lookups
from erp_service.auth.passwords import Passwords
from erp_service.auth.sessions import Gate
from erp_service.auth.tokens import Tokens
from erp_service.db import Database
from erp_service.exports import event_routes, schedule_routes
from erp_service.exports import routes as export_routes
from erp_service.exports.events import Hub
from erp_service.exports.signing import Addresses
from erp_service.exports.storage.registry import StoreKnown, open_store
from erp_service.health import Readiness
from erp_service.inventory import item_routes, location_routes, read_routes, stock_routes
from erp_service.notices import Notices
from erp_service.principals import Authorities
from erp_service.reports import routes as report_routes
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
    *report_routes.ROUTES,
    *export_routes.ROUTES,
    *event_routes.ROUTES,
    *schedule_routes.ROUTES,
    *health.ROUTES,
    *metrics.ROUTES,
]


class Timed(ASGIMiddleware):
    """Marks the start of a request, binds its id into every log line until its end, and makes it a span of a trace."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["state"]["started"] = perf_counter()
        known = telemetry.request_id(scope)
        with telemetry.bound(request_id=known), tracing.request(scope, request_id=known):
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
            await problem_answers.send_bare(why, scope, send)


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
    return Litestar(
        [*ROUTES, problem_index, problem_page, *documents.routes()],
        state=services(settings),
        lifespan=[_running],
        middleware=[Timed(), Outlived(), DefineMiddleware(BearerAuth, exclude_from_auth_key="exclude_from_auth")],
        before_send=[telemetry.before_send],
        dependencies={
            "read": Provide(read_session),
            "write": Provide(idempotency.write_session),
            "who": Provide(principal),
        },
        exception_handlers={**problem_answers.HANDLERS, **idempotency.HANDLERS},
        request_class=ApiRequest,
        response_class=Answer,
        request_max_body_size=settings.body_limit,
        plugins=[RolesDeclared(), documents.Structs(), documents.Numbers()],
        openapi_config=documents.openapi(version("erp-service")),
        cors_config=_cors(settings),
        logging_config=None,
    )


def services(settings: Settings) -> State:
    """What routes and middleware find in `state`."""
    require_secret(settings)
    database = Database(settings)
    notices = Notices(settings.listen_url)
    gate = Gate(settings, database, Passwords(), Tokens(settings))
    store = open_store(settings)
    # asked after the authority in what they do about a notice, so made after it
    authorities = Authorities(notices, Lookups(database).of)
    # connections of their own for readiness and metrics, which must not wait until a busy instance has one
    probes = Database(msgspec.structs.replace(settings, pool_size=2, replica_url=None), name="erp probes")
    readiness = Readiness(probes, [StoreKnown(probes, store)])
    hub = Hub(
        database,
        notices,
        readiness.stopping,
        most=settings.event_streams,
        most_per_user=settings.event_streams_per_user,
    )
    return State(
        {
            "settings": settings,
            "database": database,
            "probes": probes,
            "notices": notices,
            "gate": gate,
            "tokens": gate.tokens,
            "addresses": Addresses(settings),
            "authorities": authorities,
            "store": store,
            "cluster": metrics.Cluster(probes),
            "readiness": readiness,
            "hub": hub,
        }
    )


@asynccontextmanager
async def _running(app: Litestar) -> AsyncIterator[None]:
    state = app.state
    try:
        async with state.notices.listening(), state.hub.running():
            yield
    finally:
        state.gate.passwords.close()
        await state.store.close()
        await state.probes.close()
        await state.database.close()


def _cors(settings: Settings) -> CORSConfig | None:
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if not origins:
        return None
    exposed = ["ETag", "Link", "Location", "Retry-After", "X-Request-Id"]
    exposed += ["Idempotency-Replayed", "Preference-Applied", "Repr-Digest"]
    return CORSConfig(allow_origins=origins, expose_headers=exposed, allow_credentials=False)
