"""Routes that cannot forget their role and scope: get, post, put, patch, delete."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import litestar
from litestar.connection import ASGIConnection
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, PathParameter
from litestar.plugins import ReceiveRoutePlugin
from litestar.response import Response
from litestar.routes import BaseRoute
from litestar.types import ASGIApp, Receive, Scope, Send

from erp_service import errors
from erp_service.access.roles import Role
from erp_service.access.scopes import KeyAccess, Keys
from erp_service.errors import INTEGER_LIMIT, Fault, Refused
from erp_service.problems import MEDIA_TYPE, Problem
from erp_service.web.openapi import declaration
from erp_service.web.openapi.declaration import Declaration

T = TypeVar("T")

PUBLIC = None
"""The role of a route that needs no token."""

SMALL_BODY = 64 * 1024
BODY_BEFORE_SIGN_IN = 4 * 1024
"""The largest bodies, in bytes, of routes with and without a role that do not say `lines=True`."""

Id = Annotated[int, PathParameter(ge=1, le=INTEGER_LIMIT, description="the id")]
IfMatch = Annotated[
    str | None,
    HeaderParameter(name="If-Match", max_length=1000, description="The `ETag` that you read; 412 if it has changed."),
]

Path = str | list[str]
Handler = Callable[..., Any]
Register = Callable[[Handler], HTTPRouteHandler]


def get(
    path: Path, *, role: Role | None, scope: KeyAccess, problems: Sequence[type[Refused]] = (), **options: Any
) -> Register:
    """With `signed=True`, a signature in the query may replace the token. `without_primary=True` is for a handler that
    reads through `Database.reading` alone, and passes `as_of` on: it answers from a replica while no primary can be
    reached, and so do the look-ups of what its caller may do (auth/authority/without_primary.py). `any_query=True` is
    for pages for people: their query is for the page's scripts, or was put there by whoever passed on the link.

    For the document, every kind of route takes `operation_id` (else it is made from the handler's name), `example`, a
    body that works on the demo data, and `headers`, the names of further headers by status."""
    return _route(litestar.get, path, role, scope, problems, options)


def get_or_head(
    path: Path, *, role: Role | None, scope: KeyAccess, problems: Sequence[type[Refused]] = (), **options: Any
) -> Register:
    """For a body that clients ask about, by HEAD, before they fetch it. The handler sends no body for HEAD."""
    return _route(litestar.route, path, role, scope, problems, {"http_method": ["GET", "HEAD"], **options})


def post(
    path: Path, *, role: Role | None, scope: KeyAccess, problems: Sequence[type[Refused]] = (), **options: Any
) -> Register:
    """`idempotent=False` for answers that must not be recorded, since they hold secrets. `lines=True` for a body with
    many lines, which may be as large as the operator allows. `streams_body=True` for a handler that reads the body
    piece by piece: it must limit size and time itself, and must hold no connection meanwhile.
    `while_password_expired=True` and `without_second_factor=True`, of every kind of route: also for users who must
    change their password, or set up a second factor, first."""
    return _route(litestar.post, path, role, scope, problems, options)


def put(
    path: Path, *, role: Role | None, scope: KeyAccess, problems: Sequence[type[Refused]] = (), **options: Any
) -> Register:
    return _route(litestar.put, path, role, scope, problems, options)


def patch(
    path: Path, *, role: Role | None, scope: KeyAccess, problems: Sequence[type[Refused]] = (), **options: Any
) -> Register:
    return _route(litestar.patch, path, role, scope, problems, options)


def delete(
    path: Path, *, role: Role | None, scope: KeyAccess, problems: Sequence[type[Refused]] = (), **options: Any
) -> Register:
    return _route(litestar.delete, path, role, scope, problems, options)


def _route(
    method: Any,
    path: Path,
    role: Role | None,
    scope: KeyAccess,
    problems: Sequence[type[Refused]],
    options: dict[str, Any],
) -> Register:
    idempotent = options.pop("idempotent", method is litestar.post and role is not PUBLIC)
    signed = options.pop("signed", False)
    while_password_expired = options.pop("while_password_expired", False)
    without_second_factor = options.pop("without_second_factor", False)
    sent = {
        "body_limit": None if options.pop("lines", False) else BODY_BEFORE_SIGN_IN if role is PUBLIC else SMALL_BODY,
        "streams_body": options.pop("streams_body", False),
        "any_query": options.pop("any_query", False),
    }
    operation_name = options.pop("operation_id", None)
    example, headers = options.pop("example", None), options.pop("headers", {})

    def register(handler: Handler) -> HTTPRouteHandler:
        parameters = inspect.signature(handler).parameters
        implied: list[type[Refused]] = [errors.Internal, errors.Unavailable, errors.Invalid]
        if role is not PUBLIC:
            implied += [errors.Unauthorized, errors.TooMany]
            if role is not Role.VIEWER:
                implied.append(errors.Forbidden)
            implied += _problems_of_keys(scope)
            if not while_password_expired:
                implied.append(errors.PasswordChangeRequired)
            if not without_second_factor:
                implied.append(errors.SecondFactorRequired)
        if "data" in parameters:
            implied += [errors.Malformed, errors.TooSlow, errors.TooLarge, errors.UnsupportedMedia]
        if "{" in str(path):
            implied.append(errors.NotFound)
        if "if_match" in parameters:
            implied.append(errors.Stale)
        kinds = [*implied, *problems, *(_KEY_PROBLEMS if idempotent else ())]
        return method(  # type: ignore[no-any-return]
            path,
            opt={
                "role": role,
                "scope": scope,
                "idempotent": idempotent,
                "signed": signed,
                "without_primary": _without_primary(method, options),
                "while_password_expired": while_password_expired,
                "without_second_factor": without_second_factor,
                declaration.KEY: Declaration(kinds, example, headers),
                **sent,
            },
            operation_id=declaration.operation_id(operation_name or handler.__name__),
            security=_security(role, scope, signed=signed),
            description=_description(handler, role, scope, idempotent=idempotent),
            responses=_documented(kinds) | _without_random_examples(options.pop("responses", {})),
            **options,
        )(handler)

    return register


def _without_primary(method: Any, options: dict[str, Any]) -> bool:
    declared: bool = options.pop("without_primary", False)
    if declared and method is not litestar.get:
        raise ImproperlyConfiguredException("Only what reads may answer without a primary.")
    return declared


def _problems_of_keys(scope: KeyAccess) -> list[type[Refused]]:
    if scope is Keys.NONE:
        return [errors.NotForKeys]
    return [errors.KeyNetworkRefused, *([] if scope is Keys.ANY else [errors.KeyScopeMissing])]


def _security(role: Role | None, scope: KeyAccess, *, signed: bool) -> list[dict[str, list[str]]]:
    """The ways to be let in, by the names of the schemes. Beside that of keys stands the scope that a key needs, as
    OpenAPI 3.1 allows for every scheme (Security Requirement Object)."""
    if role is PUBLIC:
        return [{}]
    ways: list[dict[str, list[str]]] = [{"password": []}]
    if scope is not Keys.NONE:
        ways.append({"program_key": [] if scope is Keys.ANY else [str(scope)]})
    return [*ways, {"signature": []}] if signed else ways


def _description(handler: Handler, role: Role | None, scope: KeyAccess, *, idempotent: bool) -> str:
    text = inspect.cleandoc(handler.__doc__ or "")
    access = "No token is needed." if role is PUBLIC else f"Least role: **{role}**. {key_rule(scope)}"
    key = " Takes an `Idempotency-Key`." if idempotent else ""
    return f"{text}\n\n{access}{key}".strip()


def key_rule(scope: KeyAccess) -> str:
    """Which API keys may call a route, in a sentence."""
    if scope is Keys.NONE:
        return "Not for API keys."
    return "Any API key may call it." if scope is Keys.ANY else f"An API key needs the scope **{scope}**."


def _documented(kinds: Iterable[type[Refused]]) -> dict[int, ResponseSpec]:
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        line = f"{kind.title} (`/problems/{kind.slug}`)"
        if line not in titles.setdefault(kind.status, []):
            titles[kind.status].append(line)
    return {
        status: ResponseSpec(Problem, generate_examples=False, description="; ".join(lines), media_type=MEDIA_TYPE)
        for status, lines in sorted(titles.items())
    }


def _without_random_examples(responses: Mapping[int, ResponseSpec]) -> dict[int, ResponseSpec]:
    """The framework would invent other examples at each start."""
    return {status: replace(response, generate_examples=False) for status, response in responses.items()}


_MOST_NAMED = 20  # parameters in one answer
_KEY_PROBLEMS = (errors.KeyReused, errors.StillRunning)


class AsDeclared:
    """Middleware that refuses what the framework accepts: unknown query parameters, as a misspelt filter must not list
    everything, and ids such as `/items/1_0`, which `int()` reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] and (faults := _faults_of_query(scope)):
            raise errors.Invalid(None, *faults)
        parameters: Mapping[str, Any] = scope["path_params"]
        ids = [value for value in parameters.values() if isinstance(value, int)]
        if ids:
            segments = scope["path"].split("/")
            if any(str(value) not in segments or not 0 < value <= INTEGER_LIMIT for value in ids):
                raise errors.NotFound
        await self._app(scope, receive, send)


def _faults_of_query(scope: Scope) -> list[Fault]:
    # the framework's own handlers, which answer OPTIONS, declare nothing, and neither do pages for people
    takes_text: Mapping[str, bool] | None = scope["route_handler"].opt.get("query")
    faults: list[Fault] = []
    if takes_text is None:
        return faults
    for name, values in ASGIConnection[Any, Any, Any, Any](scope).query_params.dict().items():
        # a query of 32 KiB may have ten thousand names
        if len(faults) == _MOST_NAMED:
            break
        if name not in takes_text:
            detail = f"is not a parameter here; known: {', '.join(sorted(takes_text)) or 'none'}"
            faults.append(Fault(detail, parameter=name[:100]))
        elif len(values) > 1:
            faults.append(Fault("is given more than once", parameter=name))
        elif not takes_text[name] and str(values[0]).lower() == "null":
            # the framework reads it as None, which would switch the filter off
            faults.append(Fault("is not a value: leave the parameter out instead", parameter=name))
    return faults


def _allowing(methods: Iterable[str]) -> Callable[[Any], Awaitable[Response[None]]]:
    """Answers OPTIONS before the framework's own handler does, which names the methods of one handler of the path."""
    headers = {"Allow": ", ".join(sorted(methods))}

    async def answer(_request: Any) -> Response[None]:
        return Response(None, status_code=204, headers=headers)

    return answer


class RolesDeclared(ReceiveRoutePlugin):
    """Stops the start of a service that has a route with no role, or with no scope for keys. Notes in `opt["query"]`
    which query parameters each route takes, and whether each is a text, of which "null" is one. Makes OPTIONS name
    every method of a path."""

    def receive_route(self, route: BaseRoute) -> None:
        for handler in getattr(route, "route_handlers", []):
            if "OPTIONS" in handler.http_methods:
                handler.before_request = _allowing(route.methods)
                continue
            if missing := [name for name in ("role", "scope") if name not in handler.opt]:
                raise ImproperlyConfiguredException(f"{route.path} declares no {missing[0]}: {handler.handler_name}")
            if handler.opt.get("any_query"):
                continue
            model = handler.create_kwargs_model(path_parameters=getattr(route, "path_parameters", {}))
            fields = handler.parsed_fn_signature.parameters
            handler.opt["query"] = {
                param.field_alias: str in (fields[param.field_name].annotation, *fields[param.field_name].args)
                for param in model.expected_query_params
            } | ({"signature": True} if handler.opt.get("signed") else {})
