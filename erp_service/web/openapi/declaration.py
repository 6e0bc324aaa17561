"""What a route declares for the document, beside what its signature says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from erp_service.errors import Refused

KEY = "declaration"
"""Its name in the `opt` of a handler."""

OperationIdCreator = Callable[[HTTPRouteHandler, Any, list[Any]], str]


class Declaration(msgspec.Struct, frozen=True):
    """`problems` are all kinds that the route can answer with. `example` is a body that works on the demo data.
    `headers` are those of each status that no rule of `operations` knows."""

    problems: Sequence[type[Refused]]
    example: Mapping[str, Any] | None
    headers: Mapping[int, Sequence[str]]


def of(handler: HTTPRouteHandler) -> Declaration:
    return handler.opt[KEY]  # type: ignore[no-any-return]


def operation_id(name: str) -> OperationIdCreator:
    """`list_items` is `listItems`; HEAD of `downloadExport` is `downloadExportHead`; of a route with several paths each
    but the shortest adds its last word."""

    def create(handler: HTTPRouteHandler, method: Any, path: list[Any]) -> str:
        words = name.split("_")
        if len(path) > min(given.count("/") for given in handler.paths):
            words.append(str(path[-1]))
        if str(getattr(method, "value", method)) == "HEAD":
            words.append("head")
        return words[0] + "".join(word.capitalize() for word in words[1:])

    return create
