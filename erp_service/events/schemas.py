"""The responses of the feed."""

from typing import Annotated

from msgspec import Meta, Struct

from erp_service.access.roles import Role
from erp_service.audit.schemas import Event


class EventPage(Struct):
    """Events in ascending order of their positions."""

    items: Annotated[list[Event], Meta(description="the events; empty if there is none yet")]
    last_position: Annotated[
        int,
        Meta(
            description="for `after` of the next request: everything up to it was looked at, also what you may not"
            " read or did not ask for"
        ),
    ]
    link: Annotated[
        str,
        Meta(
            description="for `link` of the next request: it tells this position from the one that has its number after"
            " a restore of the database",
            pattern="^[0-9a-f]{64}$",
        ),
    ]


class EventTypeOut(Struct, frozen=True):
    """A type of events, and who may hear of it."""

    name: Annotated[str, Meta(description="what happened, as `kind.verb`", examples=["item.updated"])]
    role: Annotated[Role, Meta(description="the least role that may hear of it")]
    scope: Annotated[str, Meta(description="the scope that an API key needs for it", examples=["items:read"])]


class EventTypeList(Struct):
    """The types of events."""

    items: Annotated[list[EventTypeOut], Meta(description="each type that you may hear of, by name")]
