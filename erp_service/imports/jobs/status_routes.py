"""/api/v1/imports/jobs/{id}: the job, and its server-sent events. They follow it as exports are followed."""

import contextlib
from typing import Annotated, Any

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.credentials import Access, authority_of, no_longer_valid
from erp_service.db.engine import Database
from erp_service.errors import Forbidden
from erp_service.exports.delivery.live_status import LiveStatus, StreamsFull, TooManyStreams, preferred_wait
from erp_service.exports.delivery.status_routes import (
    EVENTS,
    NOTHING_MORE,
    EventStream,
    StreamReader,
    event_lines,
    may_see,
    wait_for_change,
)
from erp_service.imports.jobs import queries
from erp_service.imports.jobs.routes import ONE, TAGS, IncludeDeleted, JobId, import_response
from erp_service.imports.jobs.schemas import ImportJobOut
from erp_service.web.responses import ApiResponse, etag, etag_matches
from erp_service.web.routing import get

_LEAST = Role.STAFF


@get(
    ONE,
    role=_LEAST,
    scope=Scope.IMPORTS_READ,
    summary="An import",
    tags=TAGS,
    headers={200: ("Retry-After", "Preference-Applied", "Vary"), 304: ("Retry-After", "Preference-Applied", "Vary")},
)
async def get_import(
    request: Request[Principal, Any, Any],
    who: NamedDependency[Principal],
    database: NamedDependency[Database],
    access: NamedDependency[Access],
    live_status: NamedDependency[LiveStatus],
    job_id: JobId,
    include_deleted: IncludeDeleted = False,
    prefer: Annotated[
        str | None,
        HeaderParameter(
            name="Prefer", max_length=200, description="`wait=20`: answer once it has changed, or after 20 seconds"
        ),
    ] = None,
) -> ApiResponse[ImportJobOut]:
    """Answers 200 also if the import has failed: see `status`, `error` and `faults`. Until it has ended, `Retry-After`
    says when to ask again. `Prefer: wait=N` works as for exports."""
    seconds = preferred_wait(prefer)
    with contextlib.ExitStack() as stack:
        followed = None
        if seconds is not None:
            with contextlib.suppress(TooManyStreams, StreamsFull):
                followed = stack.enter_context(live_status.following(job_id, who.user_id))
        job = await queries.job(database.reader, who, job_id, include_deleted=include_deleted)
        if followed is None:
            return import_response(job)
        known = request.headers.get("If-None-Match")
        if known is None or etag_matches(known, etag(job.version)):
            job = await wait_for_change(live_status, followed, job, seconds or 0)
            # the rights may have changed since the request came
            if (authority := await authority_of(access, request.auth)) is None:
                raise no_longer_valid(request.auth)
            if not may_see(authority, job.job.created_by):
                raise queries.not_found(job_id)
    return import_response(job, **{"Preference-Applied": f"wait={seconds}", "Vary": "Prefer"})


@get(
    f"{ONE}/events",
    role=_LEAST,
    scope=Scope.IMPORTS_READ,
    summary="Follow an import by server-sent events",
    tags=TAGS,
    problems=(Forbidden, TooManyStreams, StreamsFull),
    responses={200: EVENTS, 204: NOTHING_MORE},
    operation_id="follow_import",
    headers={200: ("Cache-Control",)},
)
async def events(
    request: Request[Principal, Any, Any],
    who: NamedDependency[Principal],
    database: NamedDependency[Database],
    access: NamedDependency[Access],
    live_status: NamedDependency[LiveStatus],
    job_id: JobId,
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
    state. The same as for exports; there is no signed address."""
    known = last_event_id or known_event_id
    with contextlib.ExitStack() as stack:
        followed = stack.enter_context(live_status.following(job_id, who.user_id))
        job = await queries.job(database.reader, who, job_id)
        followed.offer(job)
        if job.final and known == str(job.version):
            return ApiResponse(None, status_code=204, headers={"Cache-Control": "no-store"})
        reader = StreamReader(access, request.auth, _LEAST, job.job.created_by)
        lines = event_lines(live_status, followed, reader, known)
        return EventStream(lines, stack.pop_all(), live_status.send_seconds)


ROUTES = [get_import, events]
