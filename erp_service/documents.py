"""The OpenAPI document, and the page at /docs that shows it with no network."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import litestar_offline_docs
from litestar import MediaType, Router
from litestar._openapi.schema_generation.plugins.struct import StructSchemaPlugin
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, OAuthFlow, OAuthFlows, Schema, SecurityScheme, Tag
from litestar.openapi.spec.enums import OpenAPIType
from litestar.plugins import OpenAPISchemaPlugin
from litestar.static_files import create_static_files_router
from litestar.typing import FieldDefinition

from erp_service.numbers import Number, shortest
from erp_service.routing import PUBLIC, get

_PUBLIC = {"role": PUBLIC, "exclude_from_auth": True, "query": frozenset[str]()}

_ABOUT = """
Items, locations, an append-only stock ledger, and heavy exports that never touch the request path.

* **Sign in** at `POST /api/v1/auth/login`; send the access token as `Authorization: Bearer …`.
* **Numbers** are JSON strings in their shortest exact form (`"12.5"`); strings and JSON numbers are both read.
* **Errors** are `application/problem+json` (RFC 9457) and name every bad field; open their `type` for what to do.
* **Try again safely**: send an `Idempotency-Key` with each `POST` that creates or moves something.
* **Lists** are keyset pages: follow `next_cursor`, or the `Link` header, until it is null.
"""


class Closed(StructSchemaPlugin):
    """Says `additionalProperties: false` where unknown fields are refused."""

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Any:
        schema = super().to_openapi_schema(field_definition, schema_creator)
        config: Any = getattr(field_definition.type_, "__struct_config__", None)
        if config is not None and config.forbid_unknown_fields and isinstance(schema, Schema):
            schema.additional_properties = False
        return schema


class Numbers(OpenAPISchemaPlugin):
    """Numbers are read from strings or JSON numbers, and written as strings."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return not field_definition.is_union and field_definition.is_subclass_of(Decimal)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        kind = field_definition.annotation
        if not issubclass(kind, Number):
            return Schema(type=OpenAPIType.STRING, pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["12.5"])
        whole = kind.precision - kind.scale
        sign = "" if kind.least is not None or kind.above is not None else "-?"
        above = f", greater than {shortest(kind.above)}" if kind.above is not None else ""
        least = f", at least {shortest(kind.least)}" if kind.least is not None else ""
        return Schema(
            type=[OpenAPIType.STRING, OpenAPIType.NUMBER],
            pattern=rf"^{sign}[0-9]{{1,{whole}}}(\.[0-9]{{1,{kind.scale}}})?$",
            description=f"At most {kind.scale} decimals and {whole} digits before the point{above}{least}.",
            examples=["12.5"],
        )


def openapi(version: str) -> OpenAPIConfig:
    flow = OAuthFlow(token_url="/api/v1/auth/login", refresh_url=None, scopes={})  # noqa: S106
    return OpenAPIConfig(
        title="erp_service",
        version=version,
        description=_ABOUT,
        use_handler_docstrings=True,
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        # without include_in_schema=False the schema's own routes would stand in the schema
        openapi_router=Router("/schema", route_handlers=[], opt=_PUBLIC, include_in_schema=False),
        components=Components(
            security_schemes={
                "password": SecurityScheme(
                    type="oauth2",
                    description="Sign in with e-mail and password.",
                    flows=OAuthFlows(password=flow),
                )
            }
        ),
        tags=[
            Tag("auth", "Sign in and out"),
            Tag("users", "Who may do what"),
            Tag("items", "What is kept in stock"),
            Tag("locations", "Where it is kept"),
            Tag("stock", "The ledger: movements, documents, what is on hand"),
            Tag("exports", "Heavy exports: submit, follow, download"),
            Tag("audit", "Who did what, when, from where"),
            Tag("health", "For probes, load balancers and operators"),
        ],
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>erp_service API</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/static/swagger-ui.css"></head>
<body><div id="swagger"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script>
<script>
window.ui = SwaggerUIBundle({url: "/schema/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null,
  persistAuthorization: false, tryItOutEnabled: true, docExpansion: "none"});
</script></body></html>"""


@get("/docs", role=PUBLIC, include_in_schema=False, media_type=MediaType.HTML)
async def page() -> str:
    """validatorUrl is null since the bundle would else show an image from a server of its makers."""
    return _PAGE


def routes() -> list[HTTPRouteHandler | Router]:
    scripts = Path(litestar_offline_docs.__file__).parent / "static"
    static = create_static_files_router(
        path="/docs/static", directories=[scripts], include_in_schema=False, opt=_PUBLIC, name="docs-static"
    )
    return [page, static]
