"""/api/v1/exports/jobs/{id}: the job, and its server-sent events."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, TypeVar, cast

from litestar import Request
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream
from litestar.types import Receive, Send
from litestar.types import Scope as ASGIScope

from erp_service.access.principals import Authority, Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.credentials import Access, Credential, authority_of, no_longer_valid
from erp_service.auth.problems import AddressRefused
from erp_service.db.engine import Database
from erp_service.errors import Forbidden
from erp_service.exports import queries
from erp_service.exports.delivery.live_status import (
    FollowedExport,
    LiveStatus,
    StreamsFull,
    TooManyStreams,
    VersionedJob,
    preferred_wait,
    render_expiry,
)
from erp_service.exports.delivery.signed_urls import Signed
from erp_service.exports.planning import rights
from erp_service.exports.routes import ONE, TAGS, ExportId, IncludeDeleted, export_response
from erp_service.exports.schemas import ExportEvent, ExportJobOut
from erp_service.observability.telemetry import log
from erp_service.web.responses import ApiResponse, etag, etag_matches
from erp_service.web.routing import get

Job = TypeVar("Job", bound=VersionedJob)

_CHECK_SECONDS = 5.0
_RETRY_SECONDS = 1.0

EVENTS = ResponseSpec(
    ExportEvent, description="Events, until the job has ended", media_type="text/event-stream", generate_examples=False
)
NOTHING_MORE = ResponseSpec(
    None, description="The job has ended, and `Last-Event-ID` is its final state: do not connect again"
)


@get(
    ONE,
    role=Role.VIEWER,
    scope=Scope.EXPORTS_READ,
    summary="An export",
    tags=TAGS,
    headers={200: ("Retry-After", "Preference-Applied", "Vary"), 304: ("Retry-After", "Preference-Applied", "Vary")},
)
async def get_export(
    request: Request[Principal, Any, Any],
    who: NamedDependency[Principal],
    database: NamedDependency[Database],
    access: NamedDependency[Access],
    live_status: NamedDependency[LiveStatus],
    export_id: ExportId,
    include_deleted: IncludeDeleted = False,
    prefer: Annotated[
        str | None,
        HeaderParameter(
            name="Prefer", max_length=200, description="`wait=20`: answer once it has changed, or after 20 seconds"
        ),
    ] = None,
) -> ApiResponse[ExportJobOut]:
    """Answers 200 also if the export has failed: see `status` and `error`. Until it has ended, `Retry-After` says when
    to ask again.

    With `Prefer: wait=N` (RFC 7240; at most 60) the answer comes as soon as the job differs from the one in
    `If-None-Match`, or, without that header, as soon as it changes; at the latest after N seconds. The answer then has
    `Preference-Applied`. An instance on which too many requests wait already answers at once."""
    seconds = preferred_wait(prefer)
    with contextlib.ExitStack() as stack:
        followed = None
        if seconds is not None:
            with contextlib.suppress(TooManyStreams, StreamsFull):
                followed = stack.enter_context(live_status.following(export_id, who.user_id))
        export = await queries.job(database.reader, who, export_id, include_deleted=include_deleted)
        if followed is None:
            return export_response(export)
        known = request.headers.get("If-None-Match")
        if known is None or etag_matches(known, etag(export.version)):
            export = await wait_for_change(live_status, followed, export, seconds or 0)
            # the rights may have changed since the request came
            if (authority := await authority_of(access, request.auth)) is None:
                raise no_longer_valid(request.auth)
            if not may_see(authority, export.job.created_by):
                raise queries.not_found(export_id)
    return export_response(export, **{"Preference-Applied": f"wait={seconds}", "Vary": "Prefer"})


def may_see(authority: Authority, owner: int) -> bool:
    return authority.user_id == owner or authority.role.includes(Role.ADMIN)


async def wait_for_change(live_status: LiveStatus, followed: FollowedExport, export: Job, seconds: float) -> Job:
    """The job as soon as it has changed, or unchanged after so many seconds. Holds no connection."""
    followed.offer(export)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not export.final and not live_status.stopping.is_set():
                change = followed.change
                if followed.newest is not None and followed.newest.version > export.version:
                    # what follows an id is of the kind that was offered
                    return cast(Job, followed.newest)
                await change.wait()
    return export


class EventStream(Stream):
    """Leaves `following`, the context of a counted listener, however it ends: also if the reader is gone before the
    first event."""

    def __init__(self, events: AsyncIterator[bytes], following: contextlib.ExitStack, send_seconds: float) -> None:
        # without X-Accel-Buffering, nginx holds events back
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._following, self._send_seconds = following, send_seconds

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> Any:
        response = super().to_asgi_response(app, request, **options)

        async def respond(scope: ASGIScope, receive: Receive, send: Send) -> None:
            async def send_in_time(message: Any) -> None:
                async with asyncio.timeout(self._send_seconds):
                    await send(message)

            with self._following:
                try:
                    await response(scope, receive, send_in_time)
                except* TimeoutError:
                    log.info("stream ended, its listener took nothing", seconds=self._send_seconds)

        return respond


@get(
    f"{ONE}/events",
    role=Role.VIEWER,
    scope=Scope.EXPORTS_READ,
    summary="Follow an export by server-sent events",
    tags=TAGS,
    problems=(Forbidden, AddressRefused, TooManyStreams, StreamsFull),
    responses={200: EVENTS, 204: NOTHING_MORE},
    signed=True,
    operation_id="follow_export",
    headers={200: ("Cache-Control",)},
)
async def events(
    request: Request[Principal, Any, Any],
    who: NamedDependency[Principal],
    database: NamedDependency[Database],
    access: NamedDependency[Access],
    live_status: NamedDependency[LiveStatus],
    export_id: ExportId,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(name="Last-Event-ID", max_length=100, description="the `id` of the last event you have"),
    ] = None,
    known_event_id: Annotated[
        str | None,
        QueryParameter(
            name="last_event_id",
            max_length=100,
            description="the same for a new EventSource, which cannot send the header; if both come, the header counts",
        ),
    ] = None,
) -> EventStream | ApiResponse[None]:
    """Sends `progress` with the job as it is now, and again whenever it has changed; at the end `done` with its final
    state. The data is the job as `GET` of it gives it. If states change faster than you read, some are left out, but
    never the last one.

    Connect again, to any instance, if the stream ends before `done`: with `Last-Event-ID`, which an EventSource sends
    by itself, nothing is missed and nothing comes twice. The stream ends when the instance stops, and when you lose the
    role; a comment says which. When your signed address or token expires, it ends with the event `expired`: ask for
    another address, and go on there with `last_event_id`, because an EventSource would connect to the old one again."""
    known = last_event_id or known_event_id
    with contextlib.ExitStack() as stack:
        followed = stack.enter_context(live_status.following(export_id, who.user_id))
        export = await queries.job(database.reader, who, export_id)
        rights.require(who, export.needed)
        followed.offer(export)
        if export.final and known == str(export.version):
            # the only answer after which an EventSource does not reconnect (HTML Living Standard, 9.2.3)
            return ApiResponse(None, status_code=204, headers={"Cache-Control": "no-store"})
        reader = StreamReader(access, request.auth, export.needed.role, export.job.created_by)
        lines = event_lines(live_status, followed, reader, known)
        return EventStream(lines, stack.pop_all(), live_status.send_seconds)


class StreamReader:
    """The reader of a stream, and whether they may still read it."""

    def __init__(self, access: Access, credential: Credential, least: Role, owner: int) -> None:
        self._access, self._credential = access, credential
        self._least, self._owner = least, owner

    @property
    def credential_kind(self) -> Literal["address", "token"]:
        return "address" if isinstance(self._credential, Signed) else "token"

    @property
    def seconds_left(self) -> float:
        return self._credential.expires_at - time.time()

    async def may_read(self) -> bool | None:
        """None while it is not known."""
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                authority = await authority_of(self._access, self._credential)
        # the database is unavailable, which shows in many kinds of errors
        except Exception:  # noqa: BLE001
            return None
        if authority is None or not authority.may(self._least):
            return False
        return may_see(authority, self._owner)


async def event_lines(
    live_status: LiveStatus, followed: FollowedExport, reader: StreamReader, sent: str | None
) -> AsyncIterator[bytes]:
    """What the reader gets. No event is sent before it is certain that they may still read it."""
    # random, so that a thousand readers of an instance that stops do not reconnect at the same time
    yield b"retry: %d\n\n" % random.randint(500, 2000)  # noqa: S311
    while True:
        # read before everything else: every later change sets this `change`
        change, newest, event = followed.change, followed.newest, followed.event
        if live_status.stopping.is_set():
            yield b": this instance stops, connect again\n\n"
            return
        if (left := reader.seconds_left) <= 0:
            yield render_expiry(reader.credential_kind, sent)
            yield b": your token or address has expired\n\n"
            return
        may_read = await reader.may_read()
        if may_read is False:
            yield b": your rights have changed\n\n"
            return
        if may_read is None:
            yield b": waiting for the database\n\n"
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        if newest is not None and str(newest.version) != sent:
            yield event
            sent = str(newest.version)
            if newest.final:
                return
        try:
            async with asyncio.timeout(min(live_status.keep_alive, left)):
                await change.wait()
        except TimeoutError:
            yield b": still here\n\n"


ROUTES = [get_export, events]
