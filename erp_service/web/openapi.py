"""The OpenAPI document, and the page at /docs that shows it with no network."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import litestar_offline_docs
import msgspec
from litestar import MediaType, Request, Router
from litestar._openapi.schema_generation.plugins.struct import StructSchemaPlugin
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, OAuthFlow, OAuthFlows, Reference, Schema, SecurityScheme, Tag
from litestar.openapi.spec.enums import OpenAPIType
from litestar.plugins import OpenAPISchemaPlugin
from litestar.static_files import create_static_files_router
from litestar.typing import FieldDefinition

from erp_service import errors
from erp_service.decimals import Number, shortest
from erp_service.features import FEATURES
from erp_service.texts import Text
from erp_service.web.responses import ApiResponse, html_page
from erp_service.web.routing import PUBLIC, get

_PUBLIC = {"role": PUBLIC, "exclude_from_auth": True, "query": dict[str, bool]()}

_ABOUT = """
Items, locations, an append-only stock ledger, and heavy exports that never touch the request path.

* **Sign in** at `POST /api/v1/auth/login`; send the access token as `Authorization: Bearer …`.
* **Numbers** are JSON strings in their shortest exact form (`"12.5"`); strings and JSON numbers are both read.
* **Errors** are `application/problem+json` (RFC 9457) and name every bad field; open their `type` for what to do.
* **Try again safely**: send an `Idempotency-Key` with each `POST` that creates or moves something.
* **Lists** are keyset pages: follow `next_cursor`, or the `Link` header, until it is null.
"""


class Structs(StructSchemaPlugin):
    """Adds what the framework omits: `additionalProperties: false` where unknown fields are refused, and the limits of
    optional fields."""

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Any:
        schema = super().to_openapi_schema(field_definition, schema_creator)
        struct: Any = msgspec.inspect.type_info(field_definition.type_)
        if struct.forbid_unknown_fields:
            schema.additional_properties = False
        for field in struct.fields:
            _limit((schema.properties or {})[field.encode_name], field.type)
        return schema


def _limit(schema: Any, kind: Any) -> None:
    """Write down the limits that msgspec will hold; a Reference has limits of its own."""
    if not isinstance(schema, Reference) and (write := _LIMITS.get(type(kind))) is not None:
        write(schema, kind)


def _limit_union(schema: Schema, kind: msgspec.inspect.UnionType) -> None:
    for one in kind.types:
        for alternative in schema.one_of or []:
            if isinstance(alternative, Schema) and alternative.type == _JSON_TYPES.get(type(one)):
                _limit(alternative, one)


def _limit_integer(schema: Schema, kind: msgspec.inspect.IntType) -> None:
    schema.minimum, schema.maximum = kind.ge, kind.le
    schema.exclusive_minimum, schema.exclusive_maximum = kind.gt, kind.lt


def _limit_string(schema: Schema, kind: msgspec.inspect.StrType) -> None:
    schema.min_length, schema.max_length, schema.pattern = kind.min_length, kind.max_length, kind.pattern


def _limit_array(schema: Schema, kind: msgspec.inspect.ListType) -> None:
    schema.min_items, schema.max_items = kind.min_length, kind.max_length
    _limit(schema.items, kind.item_type)


def _limit_object(schema: Schema, kind: msgspec.inspect.DictType) -> None:
    schema.max_properties = kind.max_length
    schema.property_names = Schema(type=OpenAPIType.STRING)
    _limit(schema.property_names, kind.key_type)
    if isinstance(schema.additional_properties, Schema):
        _limit(schema.additional_properties, kind.value_type)


_LIMITS: dict[type, Callable[[Any, Any], None]] = {
    msgspec.inspect.Metadata: lambda schema, kind: _limit(schema, kind.type),
    msgspec.inspect.UnionType: _limit_union,
    msgspec.inspect.IntType: _limit_integer,
    msgspec.inspect.StrType: _limit_string,
    msgspec.inspect.ListType: _limit_array,
    msgspec.inspect.DictType: _limit_object,
}
_JSON_TYPES = {
    msgspec.inspect.IntType: OpenAPIType.INTEGER,
    msgspec.inspect.StrType: OpenAPIType.STRING,
    msgspec.inspect.ListType: OpenAPIType.ARRAY,
    msgspec.inspect.DictType: OpenAPIType.OBJECT,
}


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
            minimum=None if sign and not above else 0,
            maximum=10**whole - 1,
            description=f"At most {kind.scale} decimals and {whole} digits before the point{above}{least}.",
            examples=["12.5"],
        )


class Texts(OpenAPISchemaPlugin):
    """Texts with rules that JSON Schema cannot say: their lengths, and that identifiers have single blanks inside."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return not field_definition.is_union and field_definition.is_subclass_of(Text)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        kind = field_definition.annotation
        return Schema(type=OpenAPIType.STRING, min_length=kind.shortest, max_length=kind.longest, pattern=kind.pattern)


class OpenApiJson(JsonRenderPlugin):
    """The document as JSON, corrected."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, patched(openapi_schema))


def patched(document: dict[str, Any]) -> dict[str, Any]:
    """Corrects what the framework gets wrong: a parameter that may be left out cannot be sent as null, and an answer
    without content has no media type."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                _without_null(parameter["schema"])
            operation["responses"].get("204", {}).pop("content", None)
    return document


def _without_null(schema: dict[str, Any]) -> None:
    kinds = [kind for kind in schema.get("oneOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["oneOf"]
        schema.update({name: value for name, value in kinds[0].items() if name not in schema})


async def _no_other_path(request: Request[Any, Any, Any]) -> None:
    """Below /schema the framework answers 404 with a page of HTML of its own."""
    if request.scope["path"] not in ("/schema", "/schema/openapi.json"):
        raise errors.NotFound


def openapi(version: str) -> OpenAPIConfig:
    flow = OAuthFlow(token_url="/api/v1/auth/login", refresh_url=None, scopes={})  # noqa: S106
    return OpenAPIConfig(
        title="erp_service",
        version=version,
        description=_ABOUT,
        use_handler_docstrings=True,
        render_plugins=[OpenApiJson(path="/openapi.json")],
        # without include_in_schema=False the schema would list its own routes
        openapi_router=Router(
            "/schema", route_handlers=[], opt=_PUBLIC, include_in_schema=False, before_request=_no_other_path
        ),
        components=Components(
            security_schemes={
                "password": SecurityScheme(
                    type="oauth2",
                    description="Sign in with e-mail and password.",
                    flows=OAuthFlows(password=flow),
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


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>erp_service API</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/static/swagger-ui.css"></head>
<body><div id="swagger"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script>
<script>
window.ui = SwaggerUIBundle({url: "/schema/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null,
  persistAuthorization: false, tryItOutEnabled: true, docExpansion: "list"});
</script></body></html>"""


@get("/docs", role=PUBLIC, include_in_schema=False, media_type=MediaType.HTML)
async def page() -> ApiResponse[str]:
    """`validatorUrl` is null, or Swagger UI would load an image from its makers' server."""
    return html_page(_PAGE, style_attributes=True)


ROUTES = [page]


def static_files() -> Router:
    """Swagger UI from a Python package, so that the page needs no network."""
    scripts = Path(litestar_offline_docs.__file__).parent / "static"
    return create_static_files_router(
        path="/docs/static", directories=[scripts], include_in_schema=False, opt=_PUBLIC, name="docs-static"
    )
