"""Signatures as Standard Webhooks defines them (https://www.standardwebhooks.com): secrets, ids, headers."""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NewType
from uuid import UUID

from standardwebhooks import Webhook

PREFIX = "whsec_"
_SECRET_BYTES = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Secret = NewType("Secret", bytes)
"""The key of the HMAC. It is bytes, so that it is in no text by accident."""


def new_secret() -> Secret:
    return Secret(secrets.token_bytes(_SECRET_BYTES))


def shown(secret: Secret) -> str:
    """As receivers get it, once."""
    return PREFIX + base64.b64encode(secret).decode()


def message_id(webhook_id: UUID, position: int, at: datetime) -> str:
    """The same for each attempt, and each replay, of an event at an endpoint: receivers know a repetition by it.

    With the time of the event: after a restore of the database its position is given to another one, which a receiver
    would else take for a repetition, and drop."""
    return f"msg_{webhook_id.hex}_{position}_{(at - _EPOCH) // timedelta(microseconds=1):x}"


def headers(id_: str, at: datetime, body: bytes, keys: Sequence[Secret]) -> dict[str, str]:
    """The three headers of a message. There is one signature for each key, so that a receiver may change from one
    secret to the next at any time. Raises ValueError without a key: what is not signed is not sent."""
    if not keys:
        raise ValueError("there is no key to sign with")
    text = body.decode()
    signatures = [Webhook(bytes(key)).sign(id_, at, text) for key in keys]
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(int(at.astimezone(UTC).timestamp())),
        "webhook-signature": " ".join(signatures),
    }
