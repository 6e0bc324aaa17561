"""Counting a request once its caller is known."""

from litestar.types import Scope

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.web import limit_fields
from erp_service.web.dependencies import services_of
from erp_service.web.request_limits.limiter import RequestLimiter


async def count_request(scope: Scope, who: Principal) -> None:
    """Whatever the answer will be, its headers say how the caller stands. Raises errors.TooMany."""
    standing = await services_of(scope["litestar_app"]).find(RequestLimiter).take(who)
    if standing is None:
        return
    limit_fields.note(scope["state"], standing)
    if standing.is_refused:
        subject = "You" if who.key is None else "This API key"
        raise errors.TooMany(
            f"{subject} may make {standing.most} requests in {standing.seconds} seconds. Wait {standing.wait} seconds.",
            headers={"Retry-After": str(standing.wait)},
        )
