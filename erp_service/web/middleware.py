"""Middleware: the id and the span of each request, and an answer for one that outlives a drain."""

import asyncio
from time import perf_counter

from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from erp_service import errors
from erp_service.observability import telemetry, tracing
from erp_service.web import exception_handlers


class RequestContext(ASGIMiddleware):
    """Marks the start of a request, binds its id into every log line until its end, and makes it a span of a trace."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["state"]["started"] = perf_counter()
        known = telemetry.request_id(scope)
        with telemetry.bound(request_id=known), tracing.request(scope, request_id=known):
            await next_app(scope, receive, send)


class ShutdownGuard(ASGIMiddleware):
    """A request that outlives the grace of a drain is told so; uvicorn, which cancels it, would say a bare 500."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        began = False

        async def noting(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await next_app(scope, receive, noting)
        except asyncio.CancelledError:
            if began:
                raise
            why = errors.Unavailable("This instance stops, and the request took too long for it. Another will answer.")
            await exception_handlers.send_bare(why, scope, send)
