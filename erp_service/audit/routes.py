"""The route of the audit log. There is none that writes: entries are only added, with the changes that they record."""

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import QueryParameter

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.audit import queries
from erp_service.audit.schemas import AuditPage
from erp_service.db.sessions import ReadSession
from erp_service.errors import INTEGER_LIMIT
from erp_service.timestamps import parse_times, require_order
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import get

_Text = Annotated[str | None, QueryParameter(max_length=200, description="exactly this value")]


@get(
    "/api/v1/audit",
    role=Role.ADMIN,
    scope=Scope.AUDIT_READ,
    summary="Who did what",
    tags=["audit"],
    operation_id="list_audit_entries",
)
async def list_entries(
    read: NamedDependency[ReadSession],
    user_id: Annotated[int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="the user who did it")] = None,
    on_behalf_of: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="the user for whom somebody else did it")
    ] = None,
    actor: _Text = None,
    api_key_id: Annotated[
        int | None, QueryParameter(ge=1, le=INTEGER_LIMIT, description="the API key by which it was done")
    ] = None,
    action: Annotated[str | None, QueryParameter(max_length=200, description="such as `user.role_changed`")] = None,
    entity: Annotated[str | None, QueryParameter(max_length=200, description="such as `user` or `item`")] = None,
    entity_id: _Text = None,
    request_id: _Text = None,
    since: Annotated[
        str | None,
        QueryParameter(
            name="from",
            max_length=100,
            format="date-time",
            description="at this time or later (RFC 3339, with a time zone)",
        ),
    ] = None,
    until: Annotated[
        str | None,
        QueryParameter(name="to", max_length=100, format="date-time", description="before this time"),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[AuditPage]:
    """Newest first. A change and its entry are one transaction: neither is ever there without the other."""
    first, end = parse_times(("from", since), ("to", until))
    require_order(first, end)
    return ApiResponse(
        await queries.entries(
            read,
            user_id=user_id,
            on_behalf_of=on_behalf_of,
            actor=actor,
            api_key_id=api_key_id,
            action=action,
            entity=entity,
            entity_id=entity_id,
            request_id=request_id,
            since=first,
            until=end,
            limit=limit,
            cursor=cursor,
        )
    )


ROUTES = [list_entries]
