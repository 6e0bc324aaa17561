"""The finished document: what the framework generates, corrected and completed from the routes' declarations."""

from collections.abc import Iterable
from typing import Any

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from erp_service.features import FEATURES
from erp_service.registry.feature import load_enums
from erp_service.web.merge_patch import MergePatch
from erp_service.web.openapi import operations, patch_schemas, schemas
from erp_service.web.openapi.problem_schemas import ProblemSchemas


def document_of(app: Litestar) -> dict[str, Any]:
    """The OpenAPI 3.1 document. The same at each call and on each instance."""
    document = app.openapi_schema.to_schema()
    components = document["components"]
    problems = ProblemSchemas(components["schemas"])
    routes = _handlers(app)
    described = [
        operations.Described(path, method, operation, routes[path, method])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    used = operations.complete(described, problems)
    components["headers"], components["parameters"] = used.headers, used.parameters
    schemas.tidy(document, load_enums(FEATURES))
    patch_schemas.complete(components["schemas"], _patches(routes.values()))
    document["paths"] = dict(sorted(document["paths"].items()))
    for name, members in components.items():
        components[name] = dict(sorted(members.items()))
    return document


def _handlers(app: Litestar) -> dict[tuple[str, str], HTTPRouteHandler]:
    return {
        (route.path_format, method.lower()): handler
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
    }


def _patches(handlers: Iterable[HTTPRouteHandler]) -> list[type[MergePatch[Any, Any]]]:
    """The kinds of merge patches that the handlers take as their bodies."""
    fields = [handler.parsed_fn_signature.parameters.get("data") for handler in handlers]
    return [field.annotation for field in fields if field is not None and field.is_subclass_of(MergePatch)]
