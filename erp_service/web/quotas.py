"""How often one user may make requests that cost something: a guard of a route, over the counts of rate_limits.py.

A guard runs before the request has a connection or a transaction, so that a flood waits for none and holds none."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from erp_service import errors
from erp_service.db.engine import Database
from erp_service.registry.services import ServiceSet
from erp_service.web import limit_fields, rate_limits
from erp_service.web.dependencies import services_of
from erp_service.web.limit_fields import Standing

MINUTE, HOUR = 60, 3600

Guard = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]

_PERIODS = {MINUTE: "minute", HOUR: "hour"}


def at_most(
    limit: str, setting: Callable[[ServiceSet], Awaitable[int]], *, seconds: int, what: str, instead: str
) -> Guard:
    """Lets a user through as often as the setting says in so many seconds, over all instances.

    `limit` names the count, which routes may share. `what` is what is limited, in the plural, and `instead` a sentence
    that says what to do. The guard raises errors.TooMany, and errors.Unavailable while nothing can be counted."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        services = services_of(connection.app)
        most = await setting(services)
        taker, state = connection.user.user_id, connection.scope["state"]
        try:
            standing = await rate_limits.take(services.find(Database), limit, taker, most=most, seconds=seconds)
        except errors.TooMany as exc:
            wait = int(exc.headers["Retry-After"])
            limit_fields.note(state, Standing(limit, most, seconds, 0, wait))
            raise errors.TooMany(
                f"You may make {most} {what} in one {_PERIODS[seconds]}. Wait {wait} seconds. {instead}",
                headers={"Retry-After": str(wait)},
            ) from None
        limit_fields.note(state, standing)

    return guard
