"""What clients send and get about webhooks."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from erp_service.db.pagination import Page
from erp_service.errors import INTEGER_LIMIT
from erp_service.events.webhooks.sending import targets
from erp_service.texts import Label, Text

DisabledBecause = Literal["GONE", "FAILED"]
MOST_TYPES = 200


class UrlText(Text):
    """The address of an endpoint, in one spelling: with the host in lower case and without a port that is the usual."""

    __slots__ = ()
    longest = targets.LONGEST
    pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s#@]+$"

    @staticmethod
    def checked(text: str) -> str:
        return str(targets.parse(text))


class WebhookLabel(Label):
    __slots__ = ()
    longest = 200


Url = Annotated[
    UrlText,
    Meta(
        description="where events are sent: `https://`, a public host, a port that is 443, 80 or above 1023, ASCII. The"
        " operator may allow other networks, and `http://` in these",
        examples=["https://shop.example.com/hooks/erp"],
    ),
]
Type = Annotated[str, Meta(max_length=100, examples=["stock.posted"])]
Types = Annotated[
    Annotated[list[Type], Meta(min_length=1, max_length=MOST_TYPES)] | None,
    Meta(
        description="the types of events that it is told of; null: all, also those of later versions. You must be"
        " allowed to read each of them yourself"
    ),
]
Description = Annotated[WebhookLabel | None, Meta(description="what it is for")]
IsActive = Annotated[bool, Meta(description="false: nothing is sent, and events wait at its `cursor`")]


class WebhookBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """What an ADMIN decides about a webhook."""

    url: Url
    types: Types = None
    description: Description = None
    is_active: IsActive = True


class WebhookOut(Struct, kw_only=True):
    """A webhook. Events are delivered in the order of their positions; one that is not taken blocks those after it."""

    id: Annotated[UUID, Meta(description="the id")]
    url: Annotated[str, Meta(description="where events are sent")]
    types: Annotated[list[str] | None, Meta(description="the types of events that it is told of; null: all")]
    description: Annotated[str | None, Meta(description="what it is for")]
    is_active: Annotated[bool, Meta(description="false: nothing is sent, and events wait at `cursor`")]
    disabled_because: Annotated[
        DisabledBecause | None,
        Meta(
            description="why it was switched off, if nobody did: GONE, it answered 410; FAILED, it took an event at no"
            " attempt in three days"
        ),
    ]
    cursor: Annotated[
        int, Meta(description="every event up to this position was delivered, or is of none of its types")
    ]
    lag: Annotated[int, Meta(description="how many positions are after `cursor`; of its types may be fewer")]
    blocked_position: Annotated[
        int | None, Meta(description="the event that it did not take and that is sent again; null if there is none")
    ]
    blocked_since: Annotated[datetime | None, Meta(description="when that event was refused first")]
    failures: Annotated[int, Meta(description="how often it was refused")]
    next_attempt_at: Annotated[datetime | None, Meta(description="when it is sent again; null: as soon as possible")]
    last_error: Annotated[str | None, Meta(description="why it was refused last; null after a success")]
    last_success_at: Annotated[datetime | None, Meta(description="when an event was last taken")]
    created_by: Annotated[int | None, Meta(description="the id of the user who made it")]
    created_at: Annotated[datetime, Meta(description="when it was made")]
    updated_at: Annotated[datetime, Meta(description="when somebody last changed it, or it was switched off")]
    version: Annotated[int, Meta(description="what its `ETag` is made of; deliveries do not change it")]


class NewWebhook(WebhookOut, kw_only=True):
    """A new webhook with its secret, which is shown this once."""

    secret: Annotated[
        str,
        Meta(
            description="what you verify signatures with: `whsec_` and 32 bytes in base64",
            examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
        ),
    ]


class NewSecret(Struct):
    """The new secret, which is shown this once."""

    secret: Annotated[str, Meta(description="the new secret")]
    previous_valid_until: Annotated[
        datetime, Meta(description="until then each message is also signed with the secret before it")
    ]


class ReplayBody(Struct, forbid_unknown_fields=True):
    """Where to go on."""

    from_position: Annotated[
        Annotated[int, Meta(ge=1, le=INTEGER_LIMIT)] | None,
        Meta(
            description="the first position that is delivered again or, if it lies ahead of `cursor`, that is not"
            " skipped; one after `blocked_position` skips the event that blocks; null: where it stopped",
        ),
    ] = None


class TestOut(Struct):
    """What came of a test."""

    delivered: Annotated[bool, Meta(description="whether it answered 2xx")]
    status: Annotated[int | None, Meta(description="the status of its answer; null if there was none")]
    error: Annotated[str | None, Meta(description="why there was no answer")]
    milliseconds: Annotated[int, Meta(description="how long it took")]
    response: Annotated[str, Meta(description="how its answer begins: at most 1 KiB, without control characters")]
    webhook_id: Annotated[str, Meta(description="the header `webhook-id` of the message")]


class DeliveryOut(Struct):
    """One attempt to deliver an event."""

    id: Annotated[int, Meta(description="the id; grows with time")]
    position: Annotated[int, Meta(description="the position of the event")]
    type: Annotated[str, Meta(description="the type of the event")]
    attempt: Annotated[int, Meta(description="1, or more after failures of the same event")]
    status: Annotated[int | None, Meta(description="the status of the answer; null if there was none")]
    error: Annotated[str | None, Meta(description="why there was no answer")]
    milliseconds: Annotated[int, Meta(description="how long it took")]
    response: Annotated[str, Meta(description="how the answer begins: at most 1 KiB, without control characters")]
    at: Annotated[datetime, Meta(description="when it was recorded")]


class WebhookPage(Page[WebhookOut]):
    """Webhooks, newest first."""

    items: Annotated[list[WebhookOut], Meta(description="webhooks, newest first")]


class DeliveryPage(Page[DeliveryOut]):
    """Attempts, newest first."""

    items: Annotated[list[DeliveryOut], Meta(description="attempts, newest first")]
