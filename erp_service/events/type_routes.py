"""/api/v1/events/types: which types of events there are, for whoever chooses some of them."""

from litestar.di import NamedDependency

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.audit.trail_queries import readable_types
from erp_service.events.schemas import EventTypeList, EventTypeOut
from erp_service.features import FEATURES
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get


@get(
    "/api/v1/events/types",
    role=Role.VIEWER,
    scope=Keys.ANY,
    summary="The types of events",
    tags=["events"],
    operation_id="list_event_types",
)
async def list_event_types(who: NamedDependency[Principal]) -> ApiResponse[EventTypeList]:
    """What you may name in `types` of `GET /api/v1/events`, and of a webhook if your role is ADMIN: the types that your
    role, and the scopes of your key, let you hear of. A later version may have more."""
    readable = readable_types(who.role, who.has_scope)
    found = [
        EventTypeOut(name, types.role, types.scope)
        for feature in FEATURES
        for types in feature.event_types
        for name in types.names
        if name in readable
    ]
    return ApiResponse(EventTypeList(sorted(found, key=lambda each: each.name)))


ROUTES = [list_event_types]
