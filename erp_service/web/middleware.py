"""Middleware: the id and the span of each request, its query in NFC, and an answer for a request that a shutdown
cancels."""

import asyncio
import re
from time import perf_counter
from urllib.parse import parse_qsl, urlencode

from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from erp_service import errors
from erp_service.observability import telemetry, tracing
from erp_service.texts import nfc
from erp_service.web import exception_handlers

_BEYOND_ASCII = re.compile(rb"%[89A-Fa-f]")


class RequestContext(ASGIMiddleware):
    """Notes when a request started, binds its id into every log line until its end, and makes it a span of a trace."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["state"]["started"] = perf_counter()
        request_id = telemetry.request_id(scope)
        with telemetry.bound(request_id=request_id), tracing.request(scope, request_id=request_id):
            await next_app(scope, receive, send)


class NormalisedQuery(ASGIMiddleware):
    """The query string with every name and value in NFC. Done before anything reads it, so that no filter can forget
    it; filters on what was stored in NFC find nothing else."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        query = scope["query_string"]
        if _BEYOND_ASCII.search(query) is not None:
            parsed = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
            composed = [(nfc(name), nfc(value)) for name, value in parsed]
            if composed != parsed:
                scope["query_string"] = urlencode(composed).encode()
        await next_app(scope, receive, send)


class ShutdownGuard(ASGIMiddleware):
    """Answers 503 to a request that takes longer than the grace of a drain; uvicorn, which cancels it, would answer a
    bare 500."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        answer_started = False

        async def watched_send(message: Message) -> None:
            nonlocal answer_started
            answer_started = True
            await send(message)

        try:
            await next_app(scope, receive, watched_send)
        except asyncio.CancelledError:
            if answer_started:
                raise
            refusal = errors.Unavailable("This instance is stopping and cannot finish the request. Another can.")
            await exception_handlers.send_bare(refusal, scope, send)
