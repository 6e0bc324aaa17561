"""Following an export: asking and waiting, server-sent events, and addresses that need no token for them."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Request
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from litestar.response import Stream
from litestar.types import Receive, Scope, Send

from erp_service.access.principals import Authority, AuthorityCache, Principal
from erp_service.access.roles import Role
from erp_service.auth.bearer import Access, Credential, authority_of, rights_changed
from erp_service.auth.problems import AddressRefused
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession
from erp_service.errors import Forbidden
from erp_service.exports import queries, service
from erp_service.exports.delivery.live_status import (
    FollowedExport,
    LiveStatus,
    StreamsFull,
    TooManyStreams,
    preferred_wait,
)
from erp_service.exports.delivery.signed_urls import SECONDS, Signed, SignedUrls
from erp_service.exports.problems import ExportExpired
from erp_service.exports.queries import VersionedExport
from erp_service.exports.routes import ONE, TAGS, ExportId, IncludeDeleted, shown
from erp_service.exports.schemas import ExportEvent, ExportJobOut, SignedAddress
from erp_service.observability.telemetry import log
from erp_service.settings import Settings
from erp_service.web.responses import ApiResponse, etag, etag_matches
from erp_service.web.routing import get, post

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment says that the stream lives, to proxies between too."""

_TAKEN_SECONDS = 60.0  # a reader that takes nothing for so long is gone, or as good as gone
_CHECK_SECONDS = 5.0
_AGAIN_SECONDS = 1.0

_EVENTS = ResponseSpec(
    ExportEvent, description="Events, until the job has ended", media_type="text/event-stream", generate_examples=False
)
_NOTHING_MORE = ResponseSpec(
    None, description="The job has ended, and `Last-Event-ID` is its final state: do not connect again"
)
_SAME = ResponseSpec(None, description="The job is the one that `If-None-Match` names", generate_examples=False)


@get(ONE, role=Role.VIEWER, summary="An export", tags=TAGS, responses={304: _SAME})
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
    """200 whatever became of it: see `status` and `error`. Until it has ended, `Retry-After` says when to ask again.

    With `Prefer: wait=N` (RFC 7240; at most 60) the answer comes as soon as the job is another than the one in
    `If-None-Match`, or, without that, as soon as it changes; at the latest after N seconds. `Preference-Applied` says
    that it was so. An instance on which too many wait already answers at once."""
    seconds = preferred_wait(prefer)
    with contextlib.ExitStack() as stack:
        followed = None
        if seconds is not None:
            with contextlib.suppress(TooManyStreams, StreamsFull):
                followed = stack.enter_context(live_status.following(export_id, who.user_id))
        async with database.read() as db:
            found = await queries.job(db, who, export_id, include_deleted=include_deleted)
        if followed is None:
            return shown(found)
        known = request.headers.get("If-None-Match")
        if known is None or etag_matches(known, etag(found.version)):
            found = await _changed(live_status, followed, found, seconds or 0)
            # what was allowed when the request came may not be so any more
            if (authority := await authority_of(access.authorities, request.auth)) is None:
                raise rights_changed()
            if not _may_see(authority, found.job.created_by):
                raise queries.not_found(export_id)
    return shown(found, **{"Preference-Applied": f"wait={seconds}", "Vary": "Prefer"})


def _may_see(authority: Authority, owner: int) -> bool:
    return authority.user_id == owner or authority.role.includes(Role.ADMIN)


async def _changed(
    live_status: LiveStatus, followed: FollowedExport, found: VersionedExport, seconds: float
) -> VersionedExport:
    """The job as soon as it is another, or as it is after so many seconds. Holds no connection."""
    followed.offer(found)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not found.final and not live_status.stopping.is_set():
                change = followed.change
                if followed.shown is not None and followed.shown.version > found.version:
                    return followed.shown
                await change.wait()
    return found


class EventStream(Stream):
    """Gives back its place among the listeners however it ends: also when the reader went before it began."""

    def __init__(self, events: AsyncIterator[bytes], place: contextlib.ExitStack) -> None:
        # nginx holds back what it was not told to hand on
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._place = place

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> Any:
        answer = super().to_asgi_response(app, request, **options)

        async def answered(scope: Scope, receive: Receive, send: Send) -> None:
            async def in_time(message: Any) -> None:
                async with asyncio.timeout(_TAKEN_SECONDS):
                    await send(message)

            with self._place:
                try:
                    await answer(scope, receive, in_time)
                except* TimeoutError:
                    log.info("listener let go, it took nothing", seconds=_TAKEN_SECONDS)

        return answered


@get(
    f"{ONE}/events",
    role=Role.VIEWER,
    summary="Follow an export by server-sent events",
    tags=TAGS,
    problems=(Forbidden, AddressRefused, TooManyStreams, StreamsFull),
    responses={200: _EVENTS, 204: _NOTHING_MORE},
    signed=True,
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
) -> EventStream | ApiResponse[None]:
    """`progress` with the job as it is now, and again whenever it has changed; `done` with its final state, and the
    end. The data is the job as `GET` of it gives it. States that follow each other faster than you read are left out,
    the last never is.

    Connect again if the stream ends before `done`: with `Last-Event-ID`, as an EventSource does by itself, nothing is
    missed and nothing comes twice; on any instance. The stream ends when the instance stops, when your token or signed
    address expires, and when your role goes; a comment says which."""
    with contextlib.ExitStack() as stack:
        followed = stack.enter_context(live_status.following(export_id, who.user_id))
        async with database.read() as db:
            found = await queries.job(db, who, export_id)
        service.require_least_role(who, found.least)
        followed.offer(found)
        if found.final and last_event_id == str(found.version):
            # the one answer after which an EventSource does not come again (HTML Living Standard, 9.2.3)
            return ApiResponse(None, status_code=204, headers={"Cache-Control": "no-store"})
        reader = StreamReader(access.authorities, request.auth, found.least, found.job.created_by)
        return EventStream(_told(live_status, followed, reader, last_event_id), stack.pop_all())


class StreamReader:
    """Who reads a stream, and whether they still may."""

    def __init__(self, authorities: AuthorityCache, credential: Credential, least: Role, owner: int) -> None:
        self._authorities, self._credential = authorities, credential
        self._least, self._owner = least, owner

    @property
    def seconds_left(self) -> float:
        return self._credential.expires_at - time.time()

    async def may(self) -> bool | None:
        """None while it cannot be known."""
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                authority = await authority_of(self._authorities, self._credential)
        # the database is away, in one of its many ways
        except Exception:  # noqa: BLE001
            return None
        if authority is None or not authority.role.includes(self._least):
            return False
        return _may_see(authority, self._owner)


async def _told(
    live_status: LiveStatus, followed: FollowedExport, reader: StreamReader, sent: str | None
) -> AsyncIterator[bytes]:
    """What the reader is sent. Nothing of the job leaves before it is certain that they still may read it."""
    # not all at the same moment, when an instance stops and a thousand must go elsewhere
    yield b"retry: %d\n\n" % random.randint(500, 2000)  # noqa: S311
    while True:
        # taken first: what changes from here on wakes us
        change, newest, event = followed.change, followed.shown, followed.event
        if live_status.stopping.is_set():
            yield b": this instance stops, connect again\n\n"
            return
        if (left := reader.seconds_left) <= 0:
            yield b": your token or address has expired\n\n"
            return
        may = await reader.may()
        if may is False:
            yield b": your rights have changed\n\n"
            return
        if may is None:
            yield b": waiting for the database\n\n"
            await asyncio.sleep(_AGAIN_SECONDS)
            continue
        if newest is not None and str(newest.version) != sent:
            yield event
            sent = str(newest.version)
            if newest.final:
                return
        try:
            async with asyncio.timeout(min(KEEP_ALIVE, left)):
                await change.wait()
        except TimeoutError:
            yield b": still here\n\n"


@post(
    f"{ONE}/download-url",
    role=Role.VIEWER,
    summary="An address that needs no token",
    tags=TAGS,
    status_code=200,
    problems=(Forbidden, ExportExpired),
    idempotent=False,
)
async def download_url(
    request: Request[Principal, Any, Any],
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    settings: NamedDependency[Settings],
    signed_urls: NamedDependency[SignedUrls],
    export_id: ExportId,
) -> ApiResponse[SignedAddress]:
    """For five minutes, for GET and HEAD, for whoever has the address: give it to nobody you would not give the file.

    It works while your rights are what they are now, and is looked at each time. An export that still runs has its
    address already: the file is there once it has succeeded."""
    await service.record_signed_address(write, who, export_id)
    expires_at = int(time.time()) + SECONDS
    signed = Signed(request.auth.user_id, request.auth.version, expires_at)
    here, root = _here(export_id), (settings.public_url or "").rstrip("/")
    download, events = (root + signed_urls.sign(f"{here}/{what}", signed) for what in ("download", "events"))
    answer = SignedAddress(download, events, datetime.fromtimestamp(expires_at, UTC))
    return ApiResponse(answer, headers={"Cache-Control": "no-store"})


def _here(export_id: UUID) -> str:
    return f"{queries.PATH}/{export_id}"


ROUTES = [get_export, events, download_url]
