"""The response of the feed."""

from typing import Annotated

from msgspec import Meta, Struct

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
