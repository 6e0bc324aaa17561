"""Every exception that leaves a handler becomes a problem: refusals of the service, the framework and the database, and
bugs."""

from typing import Any

import msgspec
from asyncpg import IntegrityConstraintViolationError
from litestar import Request
from litestar.exceptions import ClientException, HTTPException, ValidationException
from litestar.response import Response
from litestar.types import ExceptionHandlersMap, Scope, Send

from erp_service import errors
from erp_service.db import outages
from erp_service.errors import Fault, Refused
from erp_service.observability import telemetry
from erp_service.problems import MEDIA_TYPE, as_problem
from erp_service.validation import in_known_words, without_path

_OF_STATUS: dict[int, type[Refused]] = {
    400: errors.Malformed,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    408: errors.TooSlow,
    413: errors.TooLarge,
    415: errors.UnsupportedMedia,
    422: errors.Invalid,
    503: errors.Unavailable,
}
"""What each status means that the framework answers with."""


def answer(request: Request[Any, Any, Any], refusal: Refused) -> Response[Any]:
    """The problem document of a refusal, with the headers that its status requires."""
    headers = _headers_of(refusal)
    return Response(
        as_problem(refusal, telemetry.request_id(request.scope)),
        status_code=refusal.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def _headers_of(refusal: Refused) -> dict[str, str]:
    """Those of the refusal, and those that its status requires; `Retry-After` becomes a member of the problem, too."""
    headers = {"Cache-Control": "no-store", **refusal.headers}
    if refusal.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    if refusal.status == 503:
        headers.setdefault("Retry-After", "2")
    if "Retry-After" in headers:
        refusal.members.setdefault("retry_after", int(headers["Retry-After"]))
    return headers


def rendered(refusal: Refused, request_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of the same without the framework, but for the headers that every answer has."""
    headers = _headers_of(refusal)
    body = msgspec.json.encode(as_problem(refusal, request_id))
    headers |= {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close"}
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()], body


async def send_bare(refusal: Refused, scope: Scope, send: Send) -> None:
    """The same over plain ASGI, for a middleware that must answer without the framework."""
    headers, body = rendered(refusal, telemetry.request_id(scope))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def on_refused(request: Request[Any, Any, Any], exc: Refused) -> Response[Any]:
    return answer(request, exc)


def on_http(request: Request[Any, Any, Any], exc: HTTPException) -> Response[Any]:
    """What the framework refuses by itself."""
    if isinstance(exc, ValidationException):
        return answer(request, _invalid(request, exc))
    if (kind := _OF_STATUS.get(exc.status_code)) is not None:
        return answer(request, kind(headers=dict(exc.headers or {})))
    if isinstance(exc, ClientException):
        return answer(request, errors.Malformed(exc.detail))
    return on_bug(request, exc)


def on_database(request: Request[Any, Any, Any], exc: Exception) -> Response[Any]:
    """What the database refuses: a rule that it enforces is the caller's conflict, and an outage is nobody's fault."""
    refusal = _violation(exc) if isinstance(exc, IntegrityConstraintViolationError) else _database_refusal(exc)
    return on_bug(request, exc) if refusal is None else answer(request, refusal)


def on_bug(request: Request[Any, Any, Any], exc: Exception) -> Response[Any]:
    telemetry.log.error("unhandled", path=request.scope["path"], exc_info=exc)
    return answer(request, errors.Internal())


HANDLERS: ExceptionHandlersMap = {
    Refused: on_refused,
    HTTPException: on_http,
    # an OSError of a file is a bug
    **dict.fromkeys(outages.DATABASE_ONLY_ERRORS, on_database),
    Exception: on_bug,
}


def _invalid(request: Request[Any, Any, Any], exc: ValidationException) -> Refused:
    faults = [fault for fault in exc.extra if isinstance(fault, dict)] if isinstance(exc.extra, list) else []
    # this is how the framework reports a request without a body
    if any(fault.get("key") == "data" for fault in faults):
        return errors.Malformed("The body is empty.")
    fields = msgspec.structs.fields(request.route_handler.signature_model) if faults else ()
    kinds: dict[str | None, Any] = {field.name: field.type for field in fields}
    named = [
        Fault(in_known_words(kinds.get(name := fault.get("key")), without_path(fault["message"])), parameter=name)
        for fault in faults
    ]
    return errors.Invalid(None if named else exc.detail, *named)


def _violation(exc: IntegrityConstraintViolationError) -> Refused:
    name = outages.constraint_of(exc)
    if (refusal := errors.meaning_of(name)) is not None:
        return refusal
    telemetry.log.error("a constraint has no meaning", constraint=name, sqlstate=outages.sqlstate_of(exc))
    return errors.Conflict("What is stored does not allow this.")


def _database_refusal(exc: Exception) -> Refused | None:
    """None for an error that no request should be able to cause."""
    state = outages.sqlstate_of(exc)
    if state.startswith(outages.DATA_EXCEPTION):
        return errors.Invalid("A value cannot be stored: it is too large, or not text.")
    # before the outages, of which most of these are a kind
    if state in outages.CONTENTION:
        return errors.Unavailable("Others are changing the same rows. Try again.", headers={"Retry-After": "1"})
    if state == outages.STATEMENT_CANCELED:
        return errors.Unavailable("The database took too long to answer.")
    if outages.is_unavailable(exc):
        telemetry.log.warning("the database is unavailable", error=exc, sqlstate=state)
        return errors.Unavailable()
    return None
