"""The HTTP protocol of the server: uvicorn's, with the limits that it lacks.

uvicorn 0.54 with httptools has none for the head of a request (`h11_max_incomplete_event_size` is h11's alone), none
for the time that a head takes, counts idle connections where requests are meant (`limit_concurrency`), and answers
what it refuses in plain text."""

import asyncio
from asyncio.events import TimerHandle
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import httptools
import uvicorn
from uuid_utils.compat import uuid7
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from erp_service import errors
from erp_service.errors import Refused
from erp_service.observability import telemetry
from erp_service.processes.joined_writes import JoinedWrites
from erp_service.web import exception_handlers

_OF_BODY = (b"content-length", b"transfer-encoding")


class Limits(NamedTuple):
    """What clients can make one instance hold."""

    head_bytes: int = 32 * 1024
    head_fields: int = 200
    head_seconds: float = 10.0  # from its first byte; a connection with none of it yet is idle
    body_seconds: float = 10.0  # for the rest of a body after its request was answered
    framing_bytes: int = 64 * 1024  # of chunks and trailers, beyond one byte for each byte of the body
    silence_seconds: float = 75.0  # of a reader that takes none of its answer
    lingering_seconds: float = 2.0
    pipelined: int = 16  # requests on one connection that wait for the answer before theirs
    requests: int = 2000  # in progress
    connections: int = 7000


class LimitedConfig(uvicorn.Config):
    """uvicorn's configuration, with this protocol, its limits, and the connections that wait for a request, oldest
    first."""

    def __init__(self, app: Any, limits: Limits, **options: Any) -> None:
        super().__init__(app, http=LimitedProtocol, ws="none", **options)
        self.limits = limits
        self.idle: dict[LimitedProtocol, None] = {}


class LimitedProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(
        self,
        config: LimitedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits, self._idle = config.limits, config.idle
        self._in_head = True
        self._head_bytes = 0
        self._body_bytes = self._raw_body_bytes = 0
        self._messages = 0
        # nothing more is read: a refusal, or the answer in progress, is the last one
        self._ended = False
        self._deadline: TimerHandle | None = None
        self._silence: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport, self.loop)))
        if len(self.connections) > self._limits.connections:
            if not self._idle:
                self._refuse(errors.Unavailable("Too many connections are open to this instance."))
                return
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.abort()
        self._idle[self] = None
        # as between two requests
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        self._set_deadline(None)
        if self._silence is not None:
            self._silence.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        left = memoryview(data)
        while left and not self._ended:
            # of a head no more than it may still have, so that its end is found before its limit is passed
            size = self._limits.head_bytes - self._head_bytes if self._in_head else self._limits.head_bytes
            self._feed(left[:size])
            left = left[size:]

    def _feed(self, data: memoryview) -> None:
        messages, in_head = self._messages, self._in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is offered, so this request is answered as if it had not asked (RFC 9110, 7.8). What
            # follows is in an unknown protocol; to read it as HTTP would let it pass a proxy as something else.
            self._ended = True
            return
        except httptools.HttpParserError:
            if not self._ended:
                self._refuse(errors.BadRequest())
            return
        if self._in_head:
            # where in the data the head began is only known if nothing stood before it
            self._head_bytes += len(data) if messages == self._messages else 0
            if self._head_bytes >= self._limits.head_bytes:
                self._refuse(errors.HeadTooLarge(f"It may have {self._limits.head_bytes} bytes."))
            elif self._deadline is None and self._head_bytes:
                self._set_deadline(self._limits.head_seconds, self._head_is_late)
        elif not in_head and messages == self._messages:
            self._raw_body_bytes += len(data)
            if self._raw_body_bytes > 2 * self._body_bytes + self._limits.framing_bytes:
                self._refuse(errors.BadRequest("The chunks of the body are too small, or its trailer is too long."))

    def on_header(self, name: bytes, value: bytes) -> None:
        # a trailer must not become a header of the request (RFC 9110, 6.5.1)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = self._body_bytes = self._raw_body_bytes = 0
        self._set_deadline(None)
        self._idle.pop(self, None)
        if (refusal := self._refusal()) is not None:
            self._refuse(refusal, telemetry.request_id(self.scope))
            # ends the parser, too
            raise _HeadRefused
        super().on_headers_complete()

    def _refusal(self) -> Refused | None:
        """Why the request whose head is complete is not handed on."""
        if len(self.pipeline) >= self._limits.pipelined:
            return errors.BadRequest("Too many requests were sent before the first was answered.")
        # an orchestrator must not end a process because it is busy
        if len(self.tasks) >= self._limits.requests and not self.url.startswith(b"/health"):
            return errors.Unavailable("Too many requests are in progress on this instance.")
        if len(self.headers) > self._limits.head_fields:
            return errors.HeadTooLarge(f"It may have {self._limits.head_fields} header fields.")
        if self.parser.should_upgrade() and any(name in _OF_BODY for name, _ in self.headers):
            # the parser would skip the body and take it for the next request
            return errors.BadRequest("A request with a body cannot ask for another protocol: leave Upgrade out.")
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            return errors.BadRequest("It must have one header field Host (RFC 9112, 3.2).")
        return None

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self._messages += 1
        self._set_deadline(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._ended:
            self._close_gently()
        elif self.cycle.response_complete:
            self._idle[self] = None
            if not self._in_head:
                # answered before its end, as a body over the limit is
                self._set_deadline(self._limits.body_seconds, self._close)

    def _head_is_late(self) -> None:
        self._refuse(errors.TooSlow(f"The head must arrive within {self._limits.head_seconds:g} seconds."))

    def _refuse(self, refusal: Refused, request_id: str | None = None) -> None:
        """Answer what no request could be made of, and end the connection; if answers are in progress, after the first
        of them."""
        self._ended = True
        self._set_deadline(None)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            answered = bool(self.pipeline) or cycle.response_started or not cycle.more_body
            self.pipeline.clear()
            if answered:
                return
            # its body is broken: the handler that waits for it is told that the client is gone
            cycle.disconnected = True
            cycle.message_event.set()
        request_id = request_id or str(uuid7())
        telemetry.requests.labels("-", "(no request)", refusal.status).inc()
        client = self.client[0] if self.client else None
        telemetry.log.info("request refused", status=refusal.status, client=client, request_id=request_id)
        self.transport.write(_raw_answer(refusal, request_id))
        self._close_gently()

    def _close_gently(self) -> None:
        """End our side, and read and drop for a while: a close with unread data would reset the connection, and the
        client might never see the answer (RFC 9112, 9.6)."""
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._set_deadline(self._limits.lingering_seconds, self._close)

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _close(self) -> None:
        self.transport.close()
        # it first sends what is left, for which a reader that takes nothing would let it wait for ever
        if self.transport.get_write_buffer_size():
            self._watch_reader(None)

    def _set_deadline(self, seconds: float | None, late: Any = None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, late)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(None)

    def resume_writing(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        super().resume_writing()

    def _watch_reader(self, unread: int | None) -> None:
        """End the connection of a client that has taken nothing of its answer since `unread` bytes were left."""
        left = self.transport.get_write_buffer_size()
        if unread is not None and left >= unread:
            telemetry.log.info("connection ended, its reader took nothing", seconds=self._limits.silence_seconds)
            self.transport.abort()
            return
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self.loop.call_later(self._limits.silence_seconds, self._watch_reader, left)

    def _unsupported_upgrade_warning(self) -> None:
        """Logs nothing: any client could fill the log with it."""


class _HeadRefused(Exception):
    """Raised into the parser: the request was answered."""


def _raw_answer(refusal: Refused, request_id: str) -> bytes:
    headers, body = exception_handlers.rendered(refusal, request_id)
    lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in [*headers, *telemetry.headers_of_all(request_id)]]
    return b"\r\n".join([*lines, b"", body])
