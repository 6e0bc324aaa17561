"""The responses about the audit log."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from erp_service.db.pagination import Page


class AuditOut(msgspec.Struct, frozen=True):
    """`user_id` is null for the service itself and for a caller who had not signed in. `before` and `after` are the
    values that the change replaced, and those that it set."""

    id: int
    at: datetime
    user_id: int | None
    action: Annotated[str, Meta(examples=["user.role_changed"])]
    entity: Annotated[str, Meta(examples=["user"])]
    entity_id: Annotated[str, Meta(examples=["42"])]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None
    request_id: str | None
    address: str | None
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

    items: list[AuditOut]
