"""Routes that cannot forget their role: get, post, put, delete; the strict request and the answer they use."""

import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import litestar
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, PathParameter
from litestar.plugins import ReceiveRoutePlugin
from litestar.response import Response
from litestar.response.base import ASGIResponse
from litestar.routes import BaseRoute

from erp_service import bodies, errors
from erp_service.db import Database, ReadSession
from erp_service.errors import INTEGER_LIMIT, Fault, Refused
from erp_service.paging import Page
from erp_service.principals import Principal
from erp_service.problems import MEDIA_TYPE, Problem
from erp_service.roles import Role

T = TypeVar("T")

PUBLIC = None
"""The role of a route that needs no token."""

Id = Annotated[int, PathParameter(ge=1, le=INTEGER_LIMIT)]
IfMatch = Annotated[
    str | None,
    HeaderParameter(name="If-Match", max_length=1000, description="The `ETag` you read; 412 if it is another by now."),
]

Path = str | list[str]
Handler = Callable[..., Any]
Register = Callable[[Handler], HTTPRouteHandler]


def get(path: Path, *, role: Role | None, problems: Sequence[type[Refused]] = (), **options: Any) -> Register:
    """`signed=True` where the signature of an address, in the query, may stand for a token."""
    return _route(litestar.get, path, role, problems, options)


def get_or_head(path: Path, *, role: Role | None, problems: Sequence[type[Refused]] = (), **options: Any) -> Register:
    """For what has a body worth asking about before it is fetched. The handler sends none for HEAD."""
    return _route(litestar.route, path, role, problems, {"http_method": ["GET", "HEAD"], **options})


def post(path: Path, *, role: Role | None, problems: Sequence[type[Refused]] = (), **options: Any) -> Register:
    """`idempotent=False` for what must not be kept: answers that hold secrets."""
    return _route(litestar.post, path, role, problems, options)


def put(path: Path, *, role: Role | None, problems: Sequence[type[Refused]] = (), **options: Any) -> Register:
    return _route(litestar.put, path, role, problems, options)


def patch(path: Path, *, role: Role | None, problems: Sequence[type[Refused]] = (), **options: Any) -> Register:
    return _route(litestar.patch, path, role, problems, options)


def delete(path: Path, *, role: Role | None, problems: Sequence[type[Refused]] = (), **options: Any) -> Register:
    return _route(litestar.delete, path, role, problems, options)


def _route(
    method: Any, path: Path, role: Role | None, problems: Sequence[type[Refused]], options: dict[str, Any]
) -> Register:
    idempotent = options.pop("idempotent", method is litestar.post and role is not PUBLIC)
    signed = options.pop("signed", False)

    def register(handler: Handler) -> HTTPRouteHandler:
        names = inspect.signature(handler).parameters
        implied: list[type[Refused]] = [errors.Internal, errors.Unavailable, errors.Invalid]
        if role is not PUBLIC:
            implied.append(errors.Unauthorized)
            if role is not Role.VIEWER:
                implied.append(errors.Forbidden)
        if "data" in names:
            implied += [errors.Malformed, errors.TooLarge, errors.UnsupportedMedia]
        if "{" in str(path):
            implied.append(errors.NotFound)
        if "if_match" in names:
            implied.append(errors.Stale)
        return method(  # type: ignore[no-any-return]
            path,
            opt={"role": role, "exclude_from_auth": role is PUBLIC, "idempotent": idempotent, "signed": signed},
            guards=[_as_declared] if role is PUBLIC else [_least_role, _as_declared],
            security=[{}] if role is PUBLIC else [{"password": []}, *([{"signature": []}] if signed else [])],
            description=_description(handler, role, idempotent=idempotent),
            responses=_documented([*implied, *problems], idempotent=idempotent) | options.pop("responses", {}),
            **options,
        )(handler)

    return register


def _description(handler: Handler, role: Role | None, *, idempotent: bool) -> str:
    said = inspect.cleandoc(handler.__doc__ or "")
    who = "No token is needed." if role is PUBLIC else f"Least role: **{role}**."
    once = " Takes an `Idempotency-Key`." if idempotent else ""
    return f"{said}\n\n{who}{once}".strip()


def _documented(kinds: Iterable[type[Refused]], *, idempotent: bool) -> dict[int, ResponseSpec]:
    titles: dict[int, list[str]] = {}
    for kind in [*kinds, *(_KEY_PROBLEMS if idempotent else ())]:
        line = f"{kind.title} (`/problems/{kind.slug}`)"
        if line not in titles.setdefault(kind.status, []):
            titles[kind.status].append(line)
    return {
        status: ResponseSpec(Problem, generate_examples=False, description="; ".join(lines), media_type=MEDIA_TYPE)
        for status, lines in sorted(titles.items())
    }


_KEY_PROBLEMS = (errors.KeyReused, errors.StillRunning)


def _least_role(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    if not connection.user.role.includes(role := handler.opt["role"]):
        raise errors.Forbidden(f"This needs the role {role} or a higher one; yours is {connection.user.role}.")


def _as_declared(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A misspelt filter must not list everything, and `/items/1_0` is no id though `int()` takes it."""
    known: Mapping[str, bool] = handler.opt["query"]
    faults = []
    for name, values in connection.query_params.dict().items():
        if name not in known:
            detail = f"is not a parameter here; known: {', '.join(sorted(known)) or 'none'}"
            faults.append(Fault(detail, parameter=name[:100]))
        elif len(values) > 1:
            faults.append(Fault("is given more than once", parameter=name))
        elif not known[name] and str(values[0]).lower() == "null":
            # the framework takes it for None, and the filter would be none
            faults.append(Fault("is not a value: leave the parameter out instead", parameter=name))
    if faults:
        raise errors.Invalid(None, *faults[:20])
    ids = [value for value in connection.path_params.values() if isinstance(value, int)]
    segments = connection.scope["path"].split("/")
    if any(str(value) not in segments or not 0 < value <= INTEGER_LIMIT for value in ids):
        raise errors.NotFound


class RolesDeclared(ReceiveRoutePlugin):
    """Stops the start of a service that has a route with no role; notes which query parameters each route
    knows, and whether any text is a value of theirs."""

    def receive_route(self, route: BaseRoute) -> None:
        for handler in getattr(route, "route_handlers", []):
            if "OPTIONS" in handler.http_methods:
                continue
            if "role" not in handler.opt:
                raise ImproperlyConfiguredException(f"{route.path} declares no role: {handler.handler_name}")
            model = handler.create_kwargs_model(path_parameters=getattr(route, "path_parameters", {}))
            fields = handler.parsed_fn_signature.parameters
            handler.opt["query"] = {
                param.field_alias: str in (fields[param.field_name].annotation, *fields[param.field_name].args)
                for param in model.expected_query_params
            } | ({"signature": True} if handler.opt.get("signed") else {})


class ApiRequest(Request[Principal, Any, Any]):
    """Decodes the body straight into what the handler's `data` says: no floats, no `"5"` for 5, every fault named."""

    async def json(self) -> Any:
        handler: Any = self.route_handler
        return bodies.decode(handler.parsed_fn_signature.parameters["data"].annotation, await self.body())


_ALSO_OF_304 = ("Preference-Applied", "Vary", "Retry-After")


class Answer(Response[T]):
    """The only response class of routes: kept for the Idempotency-Key, 304 for a known ETag, Link for a next page."""

    def to_asgi_response(self, *, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:  # type: ignore[override]
        if isinstance(self.content, Page) and self.content.next_cursor is not None:
            kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
            following = urlencode([*kept, ("cursor", self.content.next_cursor)])
            self.headers["Link"] = f'<{request.url.path}?{following}>; rel="next"'
        answer = super().to_asgi_response(request=request, **options)
        etag = self.headers.get("ETag")
        if request.method == "GET" and etag and names(request.headers.get("If-None-Match"), etag):
            also = {name: self.headers[name] for name in _ALSO_OF_304 if name in self.headers}
            answer = ASGIResponse(status_code=304, headers={"ETag": etag, **also})
        request.state.answer = answer
        return answer


def tagged(content: T, version: int, **headers: str) -> Answer[T]:
    """A single resource with the `ETag` of its version."""
    return Answer(content, headers={"ETag": etag(version), **headers})


def created(content: T, location: str, version: int | None = None) -> Answer[T]:
    headers = {"Location": location} | ({"ETag": etag(version)} if version is not None else {})
    return Answer(content, status_code=201, headers=headers)


def etag(version: int) -> str:
    return f'"{version}"'


def demand(if_match: str | None, version: int) -> None:
    """Raises errors.Stale unless `If-Match` is absent, `*`, or names this version."""
    if if_match is not None and not names(if_match, etag(version)):
        raise errors.Stale("It was changed after you read it.", headers={"ETag": etag(version)})


def names(header: str | None, etag: str) -> bool:
    """Whether `If-Match` or `If-None-Match` holds this tag."""
    if header is None:
        return False
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(","))


async def read_session(request: Request[Any, Any, Any]) -> AsyncGenerator[ReadSession, None]:
    """The dependency `read`: at most one generator dependency stands in a handler (ExceptionGroup otherwise)."""
    database: Database = request.app.state.database
    async with database.read() as db:
        yield db


async def principal(request: Request[Any, Any, Any]) -> Principal:
    """The dependency `who`; it cannot fail where a role is declared, so no session can leak beside it."""
    return request.user  # type: ignore[no-any-return]
