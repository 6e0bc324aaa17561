"""/api/v1/webhooks: endpoints that are told of events."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter
from uuid_utils.compat import uuid7

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.errors import TooMany
from erp_service.events.problems import EventsGone
from erp_service.events.webhooks import messages, queries, service
from erp_service.events.webhooks.context import WebhookContext
from erp_service.events.webhooks.problems import TooManyWebhooks, WebhookExists
from erp_service.events.webhooks.schemas import (
    DeliveryPage,
    NewSecret,
    NewWebhook,
    ReplayBody,
    TestOut,
    WebhookBody,
    WebhookOut,
    WebhookPage,
)
from erp_service.events.webhooks.sending import signing, targets
from erp_service.registry.services import ServiceSet
from erp_service.web.merge_patch import MergePatch
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.quotas import MINUTE, at_most
from erp_service.web.responses import ApiResponse, created, require_match, tagged
from erp_service.web.routing import IfMatch, delete, get, patch, post


class WebhookPatch(MergePatch[WebhookBody, WebhookOut]):
    moving = frozenset(
        {
            "cursor",
            "lag",
            "blocked_position",
            "blocked_since",
            "failures",
            "next_attempt_at",
            "last_error",
            "last_success_at",
        }
    )


_PATH = "/api/v1/webhooks"
_ONE = f"{_PATH}/{{webhook_id:uuid}}"
_TAGS = ["webhooks"]

TESTS_PER_MINUTE = 10


async def _tests_per_minute(_services: ServiceSet) -> int:
    return TESTS_PER_MINUTE


_TESTS = at_most(
    "webhook-tests",
    _tests_per_minute,
    seconds=MINUTE,
    what="tests of webhooks",
    instead="What was delivered is listed at `/deliveries`.",
)

WebhookId = Annotated[UUID, PathParameter(description="the webhook's id")]


@get(_PATH, role=Role.ADMIN, scope=Scope.WEBHOOKS_READ, summary="List webhooks", tags=_TAGS)
async def list_webhooks(
    read: NamedDependency[ReadSession], limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> ApiResponse[WebhookPage]:
    """Newest first."""
    return ApiResponse(await queries.webhook_page(read, limit=limit, cursor=cursor))


@post(
    _PATH,
    role=Role.ADMIN,
    scope=Scope.WEBHOOKS_WRITE,
    summary="Make a webhook",
    tags=_TAGS,
    status_code=201,
    problems=(WebhookExists, TooManyWebhooks),
    idempotent=False,
    headers={201: ("ETag",)},
    example={"url": "https://shop.example.com/hooks/erp", "types": ["stock.posted", "item.updated"]},
)
async def create_webhook(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    webhooks: NamedDependency[WebhookContext],
    data: JSONBody[WebhookBody],
) -> ApiResponse[NewWebhook]:
    """It is told of everything from now on, by `POST` with the headers and the signature of Standard Webhooks
    (https://www.standardwebhooks.com), one event after the other in the order of their positions, each at least once: a
    repetition has the same `webhook-id`. The body is `{type, timestamp, data, position, subject}`.

    Any status 2xx within 15 seconds takes the event. 410 switches the webhook off; anything else blocks it: the event
    is sent again after 5 s, 30 s, 2 min, 15 min, 1 h, 6 h, then each 12 h, or when `Retry-After` of a 429 or 503 says,
    and those after it wait. After three days it is switched off; no event is lost thereby. No redirect is followed.

    The secret is in this answer alone. It belongs to the company: it stays when you leave."""
    new = await service.create(write, who, webhooks.sender, data)
    fields = msgspec.structs.asdict(new.webhook)
    answer = NewWebhook(**fields, secret=signing.shown(new.secret))
    return created(answer, f"{_PATH}/{new.webhook.id}", new.webhook.version)


@get(_ONE, role=Role.ADMIN, scope=Scope.WEBHOOKS_READ, summary="A webhook", tags=_TAGS)
async def get_webhook(read: NamedDependency[ReadSession], webhook_id: WebhookId) -> ApiResponse[WebhookOut]:
    """The `ETag` is that of what was written, and of whether it was switched off; deliveries do not change it."""
    webhook = await queries.webhook_by_id(read, webhook_id)
    return tagged(webhook, webhook.version)


@patch(
    _ONE,
    role=Role.ADMIN,
    scope=Scope.WEBHOOKS_WRITE,
    summary="Change a webhook",
    tags=_TAGS,
    problems=(WebhookExists,),
    example={"is_active": False},
)
async def update_webhook(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    webhooks: NamedDependency[WebhookContext],
    webhook_id: WebhookId,
    data: JSONBody[WebhookPatch],
    if_match: IfMatch = None,
) -> ApiResponse[WebhookOut]:
    """A merge patch (RFC 7396): a field that is left out stays as it is, null gives it its default. What GET shows may
    be sent back; of that, what deliveries change (`cursor` and all that follows from it) is ignored: POST `/replay`
    moves the `cursor`.

    Whoever changes address or types, or switches a webhook on, must be allowed to read all that it is told of.

    Switched on again, it is told of everything since its `cursor`: to leave that out, replay it from a later position.
    An event that blocks it is sent again at once."""
    before = await queries.webhook_by_id(write, webhook_id, for_update=True)
    require_match(if_match, before.version)
    webhook = await service.change(write, who, webhooks.sender, before, data.over(before))
    return tagged(webhook, webhook.version)


@delete(_ONE, role=Role.ADMIN, scope=Scope.WEBHOOKS_WRITE, summary="Delete a webhook", tags=_TAGS)
async def delete_webhook(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    webhook_id: WebhookId,
    if_match: IfMatch = None,
) -> None:
    """With its secrets, and the list of what was sent to it. A message that is on its way still arrives."""
    before = await queries.webhook_by_id(write, webhook_id, for_update=True)
    require_match(if_match, before.version)
    await service.remove(write, who, before)


@post(
    f"{_ONE}/test",
    role=Role.ADMIN,
    scope=Scope.WEBHOOKS_WRITE,
    summary="Send a test message",
    tags=_TAGS,
    status_code=200,
    problems=(TooMany,),
    idempotent=False,
    guards=[_TESTS],
)
async def test_webhook(
    read: NamedDependency[ReadSession], webhooks: NamedDependency[WebhookContext], webhook_id: WebhookId
) -> ApiResponse[TestOut]:
    """Sends a message of the type `webhook.test` now, also to a webhook that is switched off, and answers what came of
    it. It is no event: its `position` is null, it changes nothing, and it is in no list."""
    webhook = await queries.webhook_by_id(read, webhook_id)
    secrets = await queries.valid_secrets(read, webhook_id)
    now = datetime.now(UTC)
    body = messages.test_body(webhook_id, now)
    headers = signing.headers(f"msg_{uuid7().hex}", now, body, secrets)
    # no connection to the database is held from here on
    async with webhooks.sender.channel(targets.parse(webhook.url)) as channel:
        outcome = await channel.post(headers, body)
    return ApiResponse(
        TestOut(
            delivered=outcome.is_delivered,
            status=outcome.status,
            error=outcome.error,
            milliseconds=outcome.milliseconds,
            response=outcome.excerpt,
            webhook_id=headers["webhook-id"],
        )
    )


@post(
    f"{_ONE}/rotate-secret",
    role=Role.ADMIN,
    scope=Scope.WEBHOOKS_WRITE,
    summary="Make a new secret",
    tags=_TAGS,
    status_code=200,
    idempotent=False,
)
async def rotate_webhook_secret(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    webhook_id: WebhookId,
    if_match: IfMatch = None,
) -> ApiResponse[NewSecret]:
    """For a day each message is signed with the new secret and with those before it, up to four, so a receiver may take
    the new one at any time. If the answer is lost, make another. The secret is in this answer alone."""
    before = await queries.webhook_by_id(write, webhook_id, for_update=True)
    require_match(if_match, before.version)
    secret, valid_until = await service.rotate_secret(write, who, before)
    return ApiResponse(NewSecret(signing.shown(secret), valid_until))


@post(
    f"{_ONE}/replay",
    role=Role.ADMIN,
    scope=Scope.WEBHOOKS_WRITE,
    summary="Deliver again, or skip",
    tags=_TAGS,
    status_code=200,
    problems=(EventsGone,),
    example={"from_position": 1},
)
async def replay_webhook(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    webhook_id: WebhookId,
    data: JSONBody[ReplayBody],
    if_match: IfMatch = None,
) -> ApiResponse[WebhookOut]:
    """Goes on at a position, back or ahead, and switches the webhook on. What was delivered before has the `webhook-id`
    that it had: a receiver that has kept its ids knows it again."""
    before = await queries.webhook_by_id(write, webhook_id, for_update=True)
    require_match(if_match, before.version)
    webhook = await service.replay(write, who, before, data.from_position)
    return tagged(webhook, webhook.version)


@get(f"{_ONE}/deliveries", role=Role.ADMIN, scope=Scope.WEBHOOKS_READ, summary="What was sent to a webhook", tags=_TAGS)
async def list_webhook_deliveries(
    read: NamedDependency[ReadSession], webhook_id: WebhookId, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> ApiResponse[DeliveryPage]:
    """Every attempt of the last 30 days, the newest 10,000 of them, newest first. How the answers begin is kept, since
    that is where receivers say what was wrong."""
    return ApiResponse(await queries.delivery_page(read, webhook_id, limit=limit, cursor=cursor))


ROUTES = [
    list_webhooks,
    create_webhook,
    get_webhook,
    update_webhook,
    delete_webhook,
    test_webhook,
    rotate_webhook_secret,
    replay_webhook,
    list_webhook_deliveries,
]
