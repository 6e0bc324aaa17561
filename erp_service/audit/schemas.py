"""The responses about the audit log."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from erp_service.db.pagination import Page


class AuditOut(msgspec.Struct, frozen=True):
    """`user_id` is null for the service itself and for a caller who had not signed in. `before` and `after` are the
    values that the change replaced, and those that it set."""

    id: Annotated[int, Meta(description="grows with time")]
    at: Annotated[datetime, Meta(description="when it was done")]
    user_id: Annotated[
        int | None, Meta(description="who did it; null for the service itself and for a caller who had not signed in")
    ]
    action: Annotated[str, Meta(description="what was done", examples=["user.role_changed"])]
    entity: Annotated[str, Meta(description="the kind of thing that it was done to", examples=["user"])]
    entity_id: Annotated[str, Meta(description="the id of that thing", examples=["42"])]
    before: Annotated[dict[str, Any] | None, Meta(description="the values that were replaced; null if there were none")]
    after: Annotated[dict[str, Any] | None, Meta(description="the values that were set; null if there are none")]
    reason: Annotated[str | None, Meta(description="why, if a reason was asked for")]
    request_id: Annotated[str | None, Meta(description="the `X-Request-Id` of the request")]
    address: Annotated[str | None, Meta(description="the network address that the request came from")]
    on_behalf_of: Annotated[
        int | None,
        Meta(description="the user in whose name, or on whose property, somebody else acted; else null"),
    ]
    actor: Annotated[
        str | None,
        Meta(
            description="who acted if no user did, as `command:<account>@<host>` or `erp worker`; or by which way"
            " `user_id` did: `schedule`, or `signed address`, which is whoever has it; null for the user in person",
            examples=["command:root@books-1"],
        ),
    ]


class AuditPage(Page[AuditOut]):
    """One page of the audit log."""

    items: Annotated[list[AuditOut], Meta(description="entries, newest first")]


class Event(msgspec.Struct, frozen=True):
    """Something that happened: one entry of the audit log, at its place in the one order of all."""

    position: Annotated[
        int, Meta(description="its place in the order, which never changes; numbers in between are no loss")
    ]
    type: Annotated[str, Meta(description="what happened", examples=["item.updated"])]
    subject: Annotated[str, Meta(description="what it happened to: its kind and its id", examples=["item/42"])]
    data: Annotated[
        dict[str, Any],
        Meta(
            description="ids and versions; `changed`: the names of the fields that changed, 50 at most; of stock"
            " documents `entries`, the first 100 of `entry_count`"
        ),
    ]
    at: Annotated[datetime, Meta(description="when it happened")]


_Link = Annotated[str, Meta(description="the link, in hexadecimal", pattern="^[0-9a-f]{64}$")]


class SealOut(msgspec.Struct, frozen=True):
    """One position of the trail and what it covers."""

    position: Annotated[int, Meta(description="1, 2, 3 ... without a gap")]
    source: Annotated[str, Meta(description="the table of what is covered", examples=["audit_log"])]
    covers: Annotated[
        str,
        Meta(
            description="the id of the audit entry, or the ids of rows as half-open ranges", examples=["{[1,5),[7,8)}"]
        ),
    ]
    through: Annotated[
        int, Meta(description="every id of the table up to it is covered, or was rolled back, once this batch is there")
    ]
    form: Annotated[int, Meta(description="how what is covered was written as bytes, for its digest")]
    digest: Annotated[str, Meta(description="the SHA-256 of what is covered, in hexadecimal")]
    link: _Link
    sealed_at: Annotated[datetime, Meta(description="when it was sealed; the link covers this too")]


class SealPage(Page[SealOut]):
    """One page of the trail."""

    items: Annotated[list[SealOut], Meta(description="positions, newest first")]


class SealHead(msgspec.Struct, frozen=True):
    """The last position of the trail and its link, on which everything before it depends."""

    position: Annotated[int, Meta(description="the last position; 0 if nothing was sealed yet")]
    link: _Link
    sealed_at: Annotated[datetime | None, Meta(description="when it was sealed; null if nothing was")]
