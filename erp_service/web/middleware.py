"""Middleware: the id and the span of each request, an answer if a shutdown cancels it, its query in NFC, and the whole
body before anything that is scarce is taken. Plain ASGI, since each request passes all of it."""

import asyncio
import re
from collections.abc import Iterable
from time import perf_counter
from urllib.parse import parse_qsl, urlencode

from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPRequestEvent, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from erp_service import errors
from erp_service.observability import telemetry, tracing
from erp_service.texts import nfc
from erp_service.web import exception_handlers
from erp_service.web.routing import BODY_BEFORE_SIGN_IN

BODY_SECONDS = 10.0
"""How long a whole body may take to arrive."""

_BEYOND_ASCII = re.compile(rb"%[89A-Fa-f]")


class RequestContext:
    """Notes when a request started, binds its id into every log line until its end, and makes it a span of a trace.

    Answers 503 to a request that takes longer than the grace of a drain; uvicorn, which cancels it, would answer a bare
    500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        state["started"] = perf_counter()
        request_id = telemetry.request_id(scope)
        tokens = bind_contextvars(request_id=request_id)
        try:
            if tracing.is_on():
                with tracing.request(scope, request_id=request_id):
                    await self._app(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if "status" in state:  # the answer has begun
                raise
            refusal = errors.Unavailable("This instance is stopping and cannot finish the request. Another can.")
            await exception_handlers.send_bare(refusal, scope, send)
        finally:
            reset_contextvars(**tokens)


class NormalisedQuery:
    """The query string with every name and value in NFC. Done before anything reads it, so that no filter can forget
    it; filters on what was stored in NFC find nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"]
        if query and _BEYOND_ASCII.search(query) is not None:
            parsed = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
            composed = [(nfc(name), nfc(value)) for name, value in parsed]
            if composed != parsed:
                scope["query_string"] = urlencode(composed).encode()
        await self._app(scope, receive, send)


class WholeBody:
    """Receives the whole body before the handler's dependencies take a database connection: else as many clients as the
    pool has connections could hold all of them by sending nothing.

    Limits by `opt` of the route: `body_limit` in bytes, or None for `most`; `streams_body` for a handler that receives
    the body itself. Raises errors.TooLarge, errors.TooSlow after `seconds`, errors.UnsupportedMedia for a body that is
    compressed, and errors.Malformed if the client closes the connection before its end."""

    def __init__(self, app: ASGIApp, *, most: int, seconds: float = BODY_SECONDS) -> None:
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = _body_length(scope["headers"])
        opt = scope["route_handler"].opt
        if length == 0 or opt.get("streams_body"):
            await self._app(scope, receive, send)
            return
        limit = opt.get("body_limit", BODY_BEFORE_SIGN_IN)
        limit = self._most if limit is None else min(limit, self._most)
        if length is not None and length > limit:
            raise _too_large(limit)
        _refuse_coding(scope["headers"])
        try:
            async with asyncio.timeout(self._seconds):
                body = await _received(receive, limit)
        except TimeoutError:
            detail = f"The whole body must arrive within {self._seconds:g} seconds."
            raise errors.TooSlow(detail, headers={"Connection": "close"}) from None
        await self._app(scope, _replay(body, receive), send)


def has_body(scope: Scope) -> bool:
    """Also if the body turns out to be empty."""
    return _body_length(scope["headers"]) != 0


def _body_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """In bytes; None if only its end will tell. Without either header there is no body (RFC 9112, 6.3)."""
    length: int | None = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            # the server has refused what is not a number
            length = int(value)
    return length


def _refuse_coding(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises errors.UnsupportedMedia that says what is taken (RFC 9110, 8.4 and 12.5.3)."""
    codings = [value.strip().lower() for name, value in headers if name == b"content-encoding"]
    if any(coding not in (b"", b"identity") for coding in codings):
        raise errors.UnsupportedMedia(
            "Send the body as it is, without Content-Encoding.", headers={"Accept-Encoding": "identity"}
        )


async def _received(receive: Receive, limit: int) -> bytes:
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise errors.Malformed("The connection was closed before the end of the body.")
        pieces.append(message["body"])
        size += len(pieces[-1])
        if size > limit:
            raise _too_large(limit)
        more = message["more_body"]
    return b"".join(pieces)


def _too_large(limit: int) -> errors.TooLarge:
    return errors.TooLarge(f"A body may have at most {limit} bytes here.")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body once, as one message; then what the server has to say, which is that the client is gone."""
    event: HTTPRequestEvent | None = {"type": "http.request", "body": body, "more_body": False}

    async def replayed() -> HTTPReceiveMessage:
        nonlocal event
        if event is None:
            return await receive()  # type: ignore[return-value]
        message, event = event, None
        return message

    return replayed
