"""Reads of webhooks and of what was sent to them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, func, literal_column, or_, select

from erp_service import errors
from erp_service.db.pagination import Listing, SortKey, SortOrder
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.events.webhooks.models import Webhook, WebhookDelivery, WebhookSecret
from erp_service.events.webhooks.schemas import DeliveryOut, DeliveryPage, WebhookOut, WebhookPage
from erp_service.events.webhooks.sending.signing import Secret

_W, _D, _S = Webhook, WebhookDelivery, WebhookSecret

_HEAD = "(select coalesce(max(position), 0) from trail)"
_SELECT = select(
    _W.id,
    _W.url,
    _W.types,
    _W.description,
    _W.is_active,
    _W.disabled_because,
    _W.cursor,
    literal_column(f"greatest({_HEAD} - webhooks.cursor, 0)", BigInteger).label("lag"),
    _W.blocked_position,
    _W.blocked_since,
    _W.failures,
    _W.next_attempt_at,
    _W.last_error,
    _W.last_success_at,
    _W.created_by,
    _W.created_at,
    _W.updated_at,
    _W.version,
)
_FIELDS = tuple(column.key for column in _SELECT.selected_columns)
_ONE = Prepared(_SELECT.where(_W.id == bindparam("id")))
_ONE_FOR_UPDATE = Prepared(_SELECT.where(_W.id == bindparam("id")).with_for_update(of=_W))


def _represented(*values: object) -> WebhookOut:
    return WebhookOut(**dict(zip(_FIELDS, values, strict=True)))  # type: ignore[arg-type]


_WEBHOOKS = Listing(
    _SELECT,
    _represented,
    WebhookPage,
    {"-id": SortOrder([SortKey(_W.id, "id", UUID)], descending=True)},
    {},
)
_DELIVERIES = Listing(
    select(_D.id, _D.position, _D.type, _D.attempt, _D.status, _D.error, _D.milliseconds, _D.response, _D.at).where(
        _D.webhook_id == bindparam("webhook_id")
    ),
    DeliveryOut,
    DeliveryPage,
    {"-id": SortOrder([SortKey(_D.id, "id", int)], descending=True)},
    {},
)


async def webhook_by_id(db: Session, webhook_id: UUID, *, for_update: bool = False) -> WebhookOut:
    """With `for_update` nobody else changes it before the transaction ends. Raises errors.NotFound."""
    row = (await db.execute(_ONE_FOR_UPDATE if for_update else _ONE, {"id": webhook_id})).one_or_none()
    if row is None:
        raise errors.NotFound(f"There is no webhook {webhook_id}.")
    return _represented(*row)


async def webhook_page(db: Session, *, limit: int, cursor: str | None) -> WebhookPage:
    """One page, newest first. Raises errors.Invalid for the cursor."""
    return await _WEBHOOKS.page(db, {}, limit=limit, cursor=cursor)


async def delivery_page(db: Session, webhook_id: UUID, *, limit: int, cursor: str | None) -> DeliveryPage:
    """One page, newest first. Raises errors.NotFound for the webhook, and errors.Invalid for the cursor."""
    await webhook_by_id(db, webhook_id)
    return await _DELIVERIES.page(db, {"webhook_id": webhook_id}, limit=limit, cursor=cursor)


_SECRETS = Prepared(
    select(_S.secret)
    .where(_S.webhook_id == bindparam("id"), or_(_S.valid_until.is_(None), _S.valid_until > func.now()))
    .order_by(_S.id.desc())
)


async def valid_secrets(db: Session, webhook_id: UUID) -> Sequence[Secret]:
    """Those that messages are signed with at this moment, newest first."""
    return [Secret(secret) for secret in await db.scalars(_SECRETS, {"id": webhook_id})]
