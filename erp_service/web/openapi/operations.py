"""What the framework does not say of an operation: headers, problems, an example of its body.

Most of it follows from rules that hold for every route, and the rest is declared at the route."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from litestar.handlers import HTTPRouteHandler

from erp_service.errors import Refused
from erp_service.web.limit_fields import LIMIT, POLICY
from erp_service.web.openapi import declaration, schemas
from erp_service.web.openapi.headers import ANSWERED, TAKEN, component_name
from erp_service.web.openapi.problem_schemas import ProblemSchemas, headers_of
from erp_service.web.requests import PATCHES

JSON = "application/json"


_DEMO_IDS = {"user_id": 2}
"""Of the demo data; else the first. The first user is the caller, and nobody may change their own role."""


class Described(NamedTuple):
    """One operation of the document and the handler that answers it."""

    path: str
    method: str
    operation: dict[str, Any]
    handler: HTTPRouteHandler


class Used(NamedTuple):
    """The components that the operations refer to: an unused one would be noise."""

    headers: dict[str, Any]
    parameters: dict[str, Any]


def complete(operations: Iterable[Described], problems: ProblemSchemas) -> Used:
    operations = list(operations)
    resources = {name for one in operations if (name := _resource(one)) is not None}
    used = Used({}, {})
    for one in operations:
        _correct_parameters(one)
        _write_problems(one, problems)
        _write_headers(one, resources, used)
        _write_bytes(one)
        _write_patch_types(one)
        _write_example(one)
    return used


def _resource(one: Described) -> str | None:
    """The schema that a GET of one resource answers with, or a PATCH of the only one of its kind, whose path has no id.
    Every answer with that schema has an `ETag`."""
    if one.method != "patch" and not (one.method == "get" and one.path.endswith("}")):
        return None
    return _schema_name(one.operation["responses"]["200"])


def _schema_name(response: Mapping[str, Any]) -> str | None:
    reference: str | None = response.get("content", {}).get(JSON, {}).get("schema", {}).get("$ref")
    return None if reference is None else reference.rsplit("/", 1)[1]


def _correct_parameters(one: Described) -> None:
    for parameter in one.operation.get("parameters", []):
        schemas.without_null(parameter["schema"])
        if parameter["in"] == "path" and parameter["schema"].get("type") == "integer":
            parameter["example"] = _DEMO_IDS.get(parameter["name"], 1)


def _write_problems(one: Described, problems: ProblemSchemas) -> None:
    """Each status with the problems that it can be, in place of what the framework takes for its own 400."""
    responses = one.operation["responses"]
    by_status: dict[str, list[type[Refused]]] = {}
    for kind in declaration.of(one.handler).problems:
        kinds = by_status.setdefault(str(kind.status), [])
        if kind not in kinds:
            kinds.append(kind)
    if "400" not in by_status:
        responses.pop("400", None)
    for status, kinds in by_status.items():
        responses[status]["content"] = problems.content(kinds)
    if one.method == "head":
        for response in responses.values():
            response.pop("content", None)
    responses.get("204", {}).pop("content", None)
    one.operation["responses"] = dict(sorted(responses.items()))


def _write_headers(one: Described, resources: set[str], used: Used) -> None:
    declared = declaration.of(one.handler)
    responses = one.operation["responses"]
    if one.method == "get" and _schema_name(responses.get("200", {})) in resources:
        responses["304"] = {"description": "It is the one that `If-None-Match` names"}
        one.operation["responses"] = responses = dict(sorted(responses.items()))
    if "304" in responses:
        _take(one.operation, "If-None-Match", used)
    if one.handler.opt["idempotent"]:
        _take(one.operation, "Idempotency-Key", used)
    _take(one.operation, "X-Request-Id", used)
    for status, response in responses.items():
        names = {"X-Request-Id", *declared.headers.get(int(status), ())}
        names |= headers_of(kind for kind in declared.problems if str(kind.status) == status)
        names |= _of_success(one, status, response, resources)
        if one.handler.opt["role"] is not None and status != "401":
            names |= {LIMIT, POLICY}
        response["headers"] = {name: _header(name, used) for name in sorted(names)}


def _of_success(one: Described, status: str, response: Mapping[str, Any], resources: set[str]) -> set[str]:
    names = set()
    if status == "201":
        names.add("Location")
    if status == "304" or (status[0] == "2" and _schema_name(response) in resources):
        names.add("ETag")
    if status[0] == "2" and one.handler.opt["idempotent"]:
        names.add("Idempotency-Replayed")
    if status == "200" and (_schema_name(response) or "").endswith("Page"):
        names.add("Link")
    return names


def _take(operation: dict[str, Any], header: str, used: Used) -> None:
    name = component_name(header)
    used.parameters[name] = {"name": header, "in": "header", "required": False, **TAKEN[header]}
    operation.setdefault("parameters", []).append({"$ref": f"#/components/parameters/{name}"})


def _header(header: str, used: Used) -> dict[str, str]:
    name = component_name(header)
    used.headers[name] = ANSWERED[header]
    return {"$ref": f"#/components/headers/{name}"}


_BYTES = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}


def _write_bytes(one: Described) -> None:
    """A file, whatever its format. The general media type stands first, since generators take the first they know."""
    for response in one.operation["responses"].values():
        if "*/*" in response.get("content", {}):
            response["content"] = {media: {"schema": _BYTES} for media in ("application/octet-stream", "*/*")}


def _write_patch_types(one: Described) -> None:
    """JSON stands first, since generators take the first they know."""
    if one.method == "patch":
        content = one.operation["requestBody"]["content"]
        content |= {media: dict(content[JSON]) for media in PATCHES if media != JSON}


def _write_example(one: Described) -> None:
    if (example := declaration.of(one.handler).example) is not None:
        for content in one.operation["requestBody"]["content"].values():
            content["example"] = example
