"""What leaves a handler as an exception, answered as a problem: the framework's refusals, the database's, and bugs."""

from typing import Any

import msgspec
from asyncpg import InternalClientError, PostgresError
from litestar import Request
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    ValidationException,
)
from litestar.response import Response
from litestar.types import ExceptionHandlersMap, Scope, Send
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from erp_service import errors
from erp_service.errors import Fault, Refused
from erp_service.observability import telemetry
from erp_service.problems import MEDIA_TYPE, as_problem
from erp_service.validation import without_path


def answer(request: Request[Any, Any, Any], refusal: Refused) -> Response[Any]:
    headers = dict(refusal.headers)
    if refusal.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    if refusal.status == 503:
        headers.setdefault("Retry-After", "2")
    if "Retry-After" in headers:
        refusal.members.setdefault("retry_after", int(headers["Retry-After"]))
    return Response(
        as_problem(refusal, telemetry.request_id(request.scope)),
        status_code=refusal.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


async def send_bare(refusal: Refused, scope: Scope, send: Send) -> None:
    """The same where no request is answered by the framework any more."""
    request_id = telemetry.request_id(scope)
    body = msgspec.json.encode(as_problem(refusal, request_id))
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        "retry-after": "2",
        "x-request-id": request_id,
        "connection": "close",
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def on_refused(request: Request[Any, Any, Any], exc: Refused) -> Response[Any]:
    return answer(request, exc)


def on_http(request: Request[Any, Any, Any], exc: HTTPException) -> Response[Any]:
    """What the framework refuses by itself."""
    if isinstance(exc, ValidationException):
        extra: list[Any] = exc.extra if isinstance(exc.extra, list) else []
        if any(isinstance(e, dict) and e.get("key") == "data" for e in extra):
            return answer(request, errors.Malformed("The body is empty."))
        faults = [Fault(without_path(e["message"]), parameter=e.get("key")) for e in extra if isinstance(e, dict)]
        return answer(request, errors.Invalid(None if faults else exc.detail, *faults))
    if isinstance(exc, MethodNotAllowedException):
        return answer(request, errors.MethodNotAllowed(headers=dict(exc.headers or {})))
    kinds: dict[int, type[Refused]] = {
        400: errors.Malformed,
        401: errors.Unauthorized,
        403: errors.Forbidden,
        404: errors.NotFound,
        413: errors.TooLarge,
        415: errors.UnsupportedMedia,
        422: errors.Invalid,
        503: errors.Unavailable,
    }
    if (kind := kinds.get(exc.status_code)) is not None:
        return answer(request, kind(headers=dict(exc.headers or {})))
    if isinstance(exc, ClientException):
        return answer(request, errors.Malformed(exc.detail))
    return on_bug(request, exc)


def on_database(request: Request[Any, Any, Any], exc: SQLAlchemyError) -> Response[Any]:
    """What the database refuses: a rule it holds is the caller's conflict, its absence is nobody's fault."""
    cause = _postgres(exc)
    state = getattr(cause, "sqlstate", None) or ""
    if isinstance(exc, IntegrityError):
        name = getattr(cause, "constraint_name", None)
        if (refusal := errors.meaning_of(name)) is not None:
            return answer(request, refusal)
        telemetry.log.error("a constraint has no meaning", constraint=name, sqlstate=state)
        return answer(request, errors.Conflict("What is stored does not allow this."))
    if state.startswith("22"):
        return answer(request, errors.Invalid("A value cannot be stored: it is too large, or not text."))
    if state in ("40001", "40P01", "55P03"):
        return answer(
            request, errors.Unavailable("Others are changing the same rows. Try again.", headers={"Retry-After": "1"})
        )
    if state == "57014":
        return answer(request, errors.Unavailable("The database took too long to answer."))
    away = isinstance(exc, DBAPIError) and (exc.connection_invalidated or not state)
    if isinstance(exc, PoolTimeout) or away or state[:2] in ("08", "53", "57", "25"):
        telemetry.log.warning("database away", error=type(exc).__name__, sqlstate=state)
        return answer(request, errors.Unavailable())
    return on_bug(request, exc)


def on_away(request: Request[Any, Any, Any], exc: Exception) -> Response[Any]:
    telemetry.log.warning("database away", error=repr(exc))
    return answer(request, errors.Unavailable())


def on_postgres(request: Request[Any, Any, Any], exc: PostgresError) -> Response[Any]:
    """Raised bare while a connection is made: the server starts, stops, or has no place left."""
    if (exc.sqlstate or "")[:2] in ("08", "53", "57"):
        return on_away(request, exc)
    return on_bug(request, exc)


def on_bug(request: Request[Any, Any, Any], exc: Exception) -> Response[Any]:
    telemetry.log.error("unhandled", path=request.scope["path"], exc_info=exc)
    return answer(request, errors.Internal())


HANDLERS: ExceptionHandlersMap = {
    Refused: on_refused,
    HTTPException: on_http,
    SQLAlchemyError: on_database,
    PostgresError: on_postgres,
    ConnectionError: on_away,
    # asyncpg, cut off between two steps of one statement; SQLAlchemy does not know it
    InternalClientError: on_away,
    TimeoutError: on_away,
    Exception: on_bug,
}


def _postgres(exc: BaseException) -> BaseException | None:
    """The driver's own exception under SQLAlchemy's and its adapter's."""
    original = getattr(exc, "orig", None)
    return getattr(original, "__cause__", None) or original
