"""Signatures, as the library of Standard Webhooks reads them, and its test vectors."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from erp_service.events.webhooks.sending import signing
from erp_service.events.webhooks.sending.signing import Secret

AT = datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@pytest.mark.parametrize(
    ("secret", "id_", "seconds", "body", "signature"),
    [
        # of the specification's own test suites
        (
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            1731705121,
            b'{"event_type":"ping","data":{"success":true}}',
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
    ],
)
def test_signatures_of_the_test_vectors(secret: str, id_: str, seconds: int, body: bytes, signature: str) -> None:
    at = datetime.fromtimestamp(seconds + 0.9, UTC)
    assert signing.headers(id_, at, body, [Secret(base64.b64decode(secret))]) == {
        "webhook-id": id_,
        "webhook-timestamp": str(seconds),
        "webhook-signature": signature,
    }


def test_a_receiver_with_either_secret_verifies_while_two_are_valid() -> None:
    old, new, other = (signing.new_secret() for _ in range(3))
    body = '{"type":"item.updated","data":{"name":"Größe"}}'.encode()
    headers = signing.headers(signing.message_id(ID, 7, AT), datetime.now(UTC), body, [new, old])
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        assert Webhook(signing.shown(secret)).verify(body, headers)["type"] == "item.updated"
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.shown(other)).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.shown(new)).verify(body + b" ", headers)


def test_secrets_are_random_and_in_the_form_of_the_standard() -> None:
    shown = {signing.shown(signing.new_secret()) for _ in range(20)}
    assert len(shown) == 20
    for secret in shown:
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32


def test_id_of_a_message_is_that_of_its_event_also_after_a_restore() -> None:
    """Then another event has the position, and a receiver must not take it for one that it knows."""
    id_ = signing.message_id(ID, 7, AT)
    assert id_ == signing.message_id(ID, 7, AT.astimezone(timezone(timedelta(hours=2)))) == f"msg_{ID.hex}_7_{1:x}"
    others = {signing.message_id(ID, 8, AT), signing.message_id(ID, 7, AT + timedelta(microseconds=1))}
    assert id_ not in others | {signing.message_id(UUID(int=1), 7, AT)}
    assert "." not in id_
