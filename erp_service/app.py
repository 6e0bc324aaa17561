"""create_app: routes, middleware in order, plugins, lifespan.

The path of a request, all of it on the event loop, with no thread and nothing compiled that was compiled before:

1. processes/http_protocol.py reads the head, within its limits, and starts a task;
2. the middleware below, in its order: an id (web/middleware.py), a credential and the route's role (auth/bearer.py,
   from tokens that were verified before and rights that notifications keep up to date), parameters as declared
   (web/routing.py), the whole body and, after it, the credential again;
3. the handler. What reads has `read`, which takes a connection from the pool for each statement and no longer
   (db/sessions.py, db/pool.py). What writes has `write`, one transaction: it claims the Idempotency-Key first and
   records the answer last (web/idempotency.py);
4. statements: built and compiled once for each shape (db/statements.py, Listing in db/pagination.py), then only sent by
   asyncpg; rows go straight into the structs of the answer;
5. the answer (web/responses.py), after the commit; counted and logged as it starts (observability/telemetry.py)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import DefineMiddleware

from erp_service.auth.bearer import BearerAuth, StillSignedIn
from erp_service.features import FEATURES
from erp_service.observability import telemetry
from erp_service.registry.feature import load, load_models
from erp_service.services import Services, running
from erp_service.settings import Settings
from erp_service.web import exception_handlers, idempotency
from erp_service.web.dependencies import principal, read_session, service, services_of
from erp_service.web.middleware import NormalisedQuery, RequestContext, WholeBody
from erp_service.web.openapi import config, schema_plugins
from erp_service.web.pages import docs
from erp_service.web.requests import ApiRequest
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import AsDeclared, RolesDeclared


def create_app(services: Services) -> Litestar:
    """One instance. Connects to nothing before its lifespan."""
    load_models(FEATURES)
    return Litestar(
        [*load(FEATURES, "routes", HTTPRouteHandler), docs.static_files()],
        state=State({"services": services}),
        lifespan=[_running],
        middleware=[
            RequestContext,
            NormalisedQuery,
            BearerAuth,
            AsDeclared,
            DefineMiddleware(WholeBody, most=services.settings.body_limit),
            StillSignedIn,
        ],
        before_send=[telemetry.before_send],
        dependencies={
            "read": Provide(read_session, sync_to_thread=False),
            "write": Provide(idempotency.write_session),
            "who": Provide(principal, sync_to_thread=False),
            **{name: Provide(service(name), sync_to_thread=False) for name in Services.__struct_fields__},
        },
        exception_handlers={**exception_handlers.HANDLERS, **idempotency.HANDLERS},
        request_class=ApiRequest,
        response_class=ApiResponse,
        request_max_body_size=services.settings.body_limit,
        plugins=[
            RolesDeclared(),
            schema_plugins.Structs(),
            schema_plugins.Numbers(),
            schema_plugins.Texts(),
            schema_plugins.Edits(),
        ],
        openapi_config=config.openapi(version("erp-service")),
        cors_config=_cors(services.settings),
        logging_config=None,
    )


@asynccontextmanager
async def _running(app: Litestar) -> AsyncIterator[None]:
    # read when the app starts: tests compose it once and give it other services for each test
    services = services_of(app)
    if not isinstance(services, Services):
        raise TypeError(type(services))
    async with running(services):
        yield


def _cors(settings: Settings) -> CORSConfig | None:
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if not origins:
        return None
    exposed = ["Content-Disposition", "ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After"]
    exposed += ["Erp-Data-As-Of", "Idempotency-Replayed", "Preference-Applied", "Repr-Digest", "X-Request-Id"]
    return CORSConfig(allow_origins=origins, expose_headers=exposed, allow_credentials=False)
