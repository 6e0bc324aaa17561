"""The document of the app, and its operations by the requests that they answer."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from erp_service.web.openapi.document import document_of
from tests.architecture.assembled import APP

DOCUMENT = document_of(APP)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


class Operation(NamedTuple):
    method: str
    path: str
    said: dict[str, Any]

    @property
    def id(self) -> str:
        return self.said["operationId"]  # type: ignore[no-any-return]

    def parameters(self) -> list[dict[str, Any]]:
        return [resolved(parameter) for parameter in self.said.get("parameters", [])]

    def example(self) -> dict[str, Any] | None:
        """The body that the document offers."""
        for content in self.said.get("requestBody", {}).get("content", {}).values():
            return content.get("example")  # type: ignore[no-any-return]
        return None


def operations() -> Iterator[Operation]:
    for path, methods in DOCUMENT["paths"].items():
        for method, said in methods.items():
            yield Operation(method, path, said)


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """What a reference points to."""
    if "$ref" not in node:
        return node
    found: Any = DOCUMENT
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found  # type: ignore[no-any-return]


def operation_of(request: httpx.Request) -> Operation:
    """Fixed paths come before those with parameters, as in the service."""
    candidates = [
        operation
        for operation in operations()
        if operation.method == request.method.lower()
        and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation.path), request.url.path)
    ]
    return min(candidates, key=lambda operation: operation.path.count("{"))


def problems_of(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schemas of the problems that an answer can be, by their `type`."""
    schema = answer["content"]["application/problem+json"]["schema"]
    kinds = [resolved(kind) for kind in schema.get("oneOf", [schema])]
    return {kind["properties"]["type"]["const"]: kind for kind in kinds}
