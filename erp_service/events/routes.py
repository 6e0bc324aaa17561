"""/api/v1/events: what happened, read or waited for."""

from contextlib import nullcontext
from time import monotonic
from typing import Annotated, Any, NamedTuple

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.audit.trail_queries import Scan, head_position, known_types, link_at, readable_types, scan
from erp_service.auth.credentials import Access, Credential, authority_of, rights_changed
from erp_service.db.sessions import ReadSession
from erp_service.errors import Fault, Forbidden, Invalid
from erp_service.events.feed import LOOK, UNSURE, Feed, TooManyWaiters, Waiter, WaitersFull
from erp_service.events.problems import EventsGone, PositionUnknown
from erp_service.events.schemas import EventPage
from erp_service.web.query_params import DEFAULT_LIMIT, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get

LATEST = "latest"

_SCAN_SECONDS = 0.5
"""After so long one answer searches no further for events of rare types: it says how far it came."""


@get(
    "/api/v1/events",
    role=Role.VIEWER,
    scope=Keys.ANY,
    summary="What happened",
    tags=["events"],
    operation_id="list_events",
    problems=(Forbidden, EventsGone, PositionUnknown, TooManyWaiters, WaitersFull),
)
async def list_events(
    request: Request[Principal, Any, Any],
    who: NamedDependency[Principal],
    read: NamedDependency[ReadSession],
    access: NamedDependency[Access],
    feed: NamedDependency[Feed],
    after: Annotated[
        str | None,
        QueryParameter(
            pattern=f"^(0|[1-9][0-9]{{0,14}}|{LATEST})$",
            description="`last_position` of your last answer; `latest`: only what comes from now on; else from the"
            " first that is kept",
        ),
    ] = None,
    link: Annotated[
        str | None,
        QueryParameter(
            pattern="^[0-9a-f]{64}$",
            description="`link` of that answer: 409 if that position was lost in a restore of the database, and is now"
            " another one",
        ),
    ] = None,
    types: Annotated[
        str | None,
        QueryParameter(
            max_length=4000,
            description="types separated by commas, such as `item.updated,stock.posted`; else all that you may read",
        ),
    ] = None,
    wait: Annotated[
        int, QueryParameter(ge=0, le=30, description="if there is no event yet, wait for one: seconds at most")
    ] = 0,
    limit: Limit = DEFAULT_LIMIT,
) -> ApiResponse[EventPage]:
    """Everything that happened after a position, in one order that misses nothing, has nothing twice and never changes.
    Keep `last_position` and `link` with what you made of the events, and ask again with them as `after` and `link`.

    An event is there within a second of what it tells of. It is thin: read the resource for more, which may be newer
    than the event. Of an import there is one event for the whole file. With `wait` the answer comes as soon as there is
    an event, or empty after so many seconds."""
    wanted = _wanted(who, types)
    with feed.waiting(who.user_id, wanted) if wait else nullcontext() as waiter:
        result = await _read(read, after, link, wanted, limit)
        if waiter is not None and not result.events:
            reader = _Reader(access, request.auth, read, wanted, limit)
            result = await _wait(feed, waiter, reader, result, wait)
    return ApiResponse(EventPage(result.events, result.last_position, await _link(read, result.last_position)))


def _wanted(who: Principal, types: str | None) -> frozenset[str]:
    """The types of events to look for. Raises errors.Invalid, errors.Forbidden."""
    readable = readable_types(who.role, who.has_scope)
    if types is None:
        return readable
    names = frozenset(name.strip() for name in types.split(","))
    if unknown := sorted(names - known_types()):
        raise Invalid(
            None,
            *(Fault(f"{name[:100]!r} is not one of the types of events", parameter="types") for name in unknown[:20]),
        )
    if hidden := sorted(names - readable):
        raise Forbidden(f"Your role, or your key, may not read these events: {', '.join(hidden)}.")
    return names


async def _link(read: ReadSession, position: int) -> str:
    """Raises PositionUnknown: a restore may have taken it at this moment."""
    if (link := await link_at(read, position)) is None:
        raise _unknown(await head_position(read))
    return link


def _unknown(head: int) -> PositionUnknown:
    return PositionUnknown(f"The last position is {head}.", last_position=head)


async def _read(read: ReadSession, after: str | None, link: str | None, types: frozenset[str], limit: int) -> Scan:
    """The first look. Raises EventsGone, PositionUnknown."""
    position = await head_position(read) if after == LATEST else int(after or 0)
    result = await _search(read, position, types, limit)
    if after is None and result.first > 1:
        return await _search(read, result.first - 1, types, limit)
    if position < result.first - 1:
        raise EventsGone(f"The first event that is kept is {result.first}.", first_position=result.first)
    if position > result.head or (link is not None and link != await _link(read, position)):
        raise _unknown(result.head)
    return result


async def _search(read: ReadSession, position: int, types: frozenset[str], limit: int) -> Scan:
    """Stretch by stretch, until there is an event, the end, or no more time."""
    end = monotonic() + _SCAN_SECONDS
    result = await scan(read, position, limit=limit, types=types)
    while not result.events and result.last_position < result.head and monotonic() < end:
        result = await scan(read, result.last_position, limit=limit, types=types)
    return result


class _Reader(NamedTuple):
    """Who waits, and for what."""

    access: Access
    credential: Credential
    read: ReadSession
    types: frozenset[str]
    limit: int


async def _wait(feed: Feed, waiter: Waiter, reader: _Reader, result: Scan, seconds: float) -> Scan:
    """Until there is an event, or so long. Holds no connection. Raises errors.Unauthorized once the rights are gone."""
    end = monotonic() + seconds
    while not result.events and (left := end - monotonic()) > 0 and not feed.stopping.is_set():
        if result.last_position >= result.head:
            await waiter.sleep(min(left, LOOK if feed.is_current else UNSURE))
        if await authority_of(reader.access.authorities, reader.credential) is None:
            raise rights_changed()
        if waiter.news or not feed.is_current or result.last_position < result.head:
            waiter.news = False
            result = await _search(reader.read, result.last_position, reader.types, reader.limit)
    if not result.events:
        # what nobody was woken for: the next request need not look at it again
        result = await _search(reader.read, result.last_position, reader.types, reader.limit)
    return result


ROUTES = [list_events]
