"""Middleware: the id and the span of each request, and an answer for a request that a shutdown cancels."""

import asyncio
from time import perf_counter

from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from erp_service import errors
from erp_service.observability import telemetry, tracing
from erp_service.web import exception_handlers


class RequestContext(ASGIMiddleware):
    """Notes when a request started, binds its id into every log line until its end, and makes it a span of a trace."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["state"]["started"] = perf_counter()
        request_id = telemetry.request_id(scope)
        with telemetry.bound(request_id=request_id), tracing.request(scope, request_id=request_id):
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
