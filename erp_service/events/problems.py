"""What can be wrong with a reader's place in the feed."""

from typing import Annotated

import msgspec
from msgspec import Meta

from erp_service import errors


class FirstKept(msgspec.Struct):
    """The members of the problem below."""

    first_position: Annotated[int, Meta(description="the first position that is kept")]


class EventsGone(errors.Gone):
    """Events after the position that you gave have been removed, because they are older than the company keeps them.

    Read what you keep a copy of anew, then go on with `after` at `first_position` less one."""

    slug, title = "events-gone", "These events are no longer kept"
    extension = FirstKept


class LastPosition(msgspec.Struct):
    """The members of the problem below."""

    last_position: Annotated[int, Meta(description="the last position that there is")]


class PositionUnknown(errors.Conflict):
    """The position that you gave has not been reached, or its `link` is another one now: the database was restored from
    a backup, so what you have seen since then is no longer there, and other events have its positions.

    Read what you keep a copy of anew, then go on with `after=latest` or at `last_position`."""

    slug, title = "position-unknown", "This is no position of the trail"
    extension = LastPosition
