"""What is sent: which events, and the body of a message."""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from erp_service.access.roles import Role
from erp_service.audit.schemas import Event
from erp_service.audit.trail_queries import readable_types

TEST = "webhook.test"
"""The type of the message that tests an endpoint. It is no event: it has no position."""


class Message(Struct, frozen=True):
    """The body, with the members that Standard Webhooks asks for: `type`, `timestamp`, `data`."""

    type: str
    timestamp: datetime
    data: dict[str, Any]
    position: int | None
    subject: str


@cache
def all_types() -> frozenset[str]:
    """What a webhook without types is told of: all that an ADMIN may read."""
    return readable_types(Role.ADMIN, lambda _scope: True)


def types_of(types: Sequence[str] | None) -> Collection[str]:
    """The types that an endpoint is told of; `types` is its column."""
    return all_types() if types is None else types


def body_of(event: Event) -> bytes:
    """The event as the feed has it, in JSON without blanks."""
    return msgspec.json.encode(Message(event.type, event.at, event.data, event.position, event.subject))


def test_body(webhook_id: UUID, now: datetime) -> bytes:
    """The body of a test message."""
    data = {"webhook_id": str(webhook_id)}
    return msgspec.json.encode(Message(TEST, now, data, None, f"webhook/{webhook_id}"))
