"""What the document says of the whole service, and where it is served."""

import asyncio
from typing import Any

import msgspec
from litestar import Request, Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Contact, License, OAuthFlow, OAuthFlows, SecurityScheme, Tag

from erp_service import errors
from erp_service.access.scopes import Keys
from erp_service.features import FEATURES
from erp_service.web.openapi.document import document_of
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC

_PATHS = ("/schema", "/schema/openapi.json")
MEDIA_TYPE = "application/vnd.oai.openapi+json"
PUBLIC_OPT = {"role": PUBLIC, "scope": Keys.NONE, "query": dict[str, bool]()}

_ABOUT = """
Items, locations, an append-only stock ledger, and heavy exports that never touch the request path.

* **Sign in** at `POST /api/v1/auth/login`; send the access token as `Authorization: Bearer …`.
* **Programs** send an API key in its place, from `POST /api/v1/api-keys`: each operation says which scope it needs.
* **Numbers** are JSON strings in their shortest exact form (`"12.5"`); strings and JSON numbers are both read.
* **Errors** are `application/problem+json` (RFC 9457) and name every bad field; open their `type` for what to do.
* **Try again safely**: send an `Idempotency-Key` with each `POST` that creates or moves something.
* **Changes**: `PUT` replaces and `PATCH` merges (RFC 7396), by the same rules. Both take a body as GET has shown it:
  what a client cannot write is ignored if it is unchanged, and refused if it is not. Send the `ETag` as `If-Match`.
* **Limits**: `RateLimit` says how many requests you have left; after a 429, wait `Retry-After` seconds and a random
  part of as much again.
* **Lists** are keyset pages: follow `next_cursor`, or the `Link` header, until it is null.
"""


class OpenApiJson(JsonRenderPlugin):
    """The finished document as JSON. It is made when it is first asked for, in a thread: that takes a quarter of a
    second, for which the event loop would stand still."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json")
        self._lock = asyncio.Lock()
        self._rendered: bytes | None = None

    async def answer(self, request: Request[Any, Any, Any]) -> ApiResponse[bytes]:
        """Instead of the framework's handler, which is not asynchronous."""
        if request.scope["path"] not in _PATHS:
            # below /schema the framework answers 404 with a page of HTML of its own
            raise errors.NotFound
        async with self._lock:
            if self._rendered is None:
                self._rendered = await asyncio.to_thread(self.render, request, {})
        return ApiResponse(self._rendered, media_type=MEDIA_TYPE)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return msgspec.json.encode(document_of(request.app))


def openapi(version: str) -> OpenAPIConfig:
    flow = OAuthFlow(token_url="/api/v1/auth/login", refresh_url=None, scopes={})  # noqa: S106
    document = OpenApiJson()
    return OpenAPIConfig(
        title="erp_service",
        contact=Contact(name="The operator of this service"),
        license=License(name="All rights reserved", identifier="LicenseRef-All-Rights-Reserved"),
        version=version,
        description=_ABOUT,
        use_handler_docstrings=True,
        render_plugins=[document],
        # without include_in_schema=False the schema would list its own routes
        openapi_router=Router(
            "/schema", route_handlers=[], opt=PUBLIC_OPT, include_in_schema=False, before_request=document.answer
        ),
        components=Components(
            security_schemes={
                "password": SecurityScheme(
                    type="oauth2",
                    description="Sign in with e-mail and password.",
                    flows=OAuthFlows(password=flow),
                ),
                "program_key": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    bearer_format="erp_...",
                    description="An API key from `POST /api/v1/api-keys`, for programs. Each operation names the scope"
                    " that a key needs.",
                ),
                "signature": SecurityScheme(
                    type="apiKey",
                    name="signature",
                    security_scheme_in="query",
                    description="The signature in an address from `POST /api/v1/exports/jobs/{id}/download-url`. It"
                    " replaces the token, for this address only, for five minutes.",
                ),
            }
        ),
        tags=[Tag(name, description) for feature in FEATURES for name, description in feature.tags],
    )
