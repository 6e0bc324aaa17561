"""What webhooks may refuse. API users read the docstrings, at `/problems/{slug}`."""

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from erp_service import errors


class PresentWebhook(Struct):
    """The webhook that is there already."""

    webhook_id: Annotated[UUID | UnsetType, Meta(description="the webhook with this address")] = UNSET


class WebhookExists(errors.Conflict):
    """There is a webhook with this address. Each address has one: a receiver that is told of several kinds of events
    gets them in one order.

    Change its `types`, if it needs others. If the answer to your request was lost, and its secret with it: rotate the
    secret of the webhook that `webhook_id` names."""

    slug, title = "webhook-exists", "This address has a webhook"
    extension = PresentWebhook


class TooManyWebhooks(errors.Conflict):
    """There are as many webhooks as there may be. Delete one that nobody needs any more, also of those that were
    switched off."""

    slug, title = "too-many-webhooks", "There are too many webhooks"
