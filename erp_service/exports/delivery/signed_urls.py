"""Addresses that need no token: for a browser's download, for an EventSource, or for another program.

A signature states for which user, until when, and with which version of their rights the address is valid. It is bound
to the path and to reading. It is part of the query, which ends up in histories and in logs of others, so it is valid
for minutes only."""

import base64
import hmac
import re
import struct
import time
from uuid import UUID

import msgspec

from erp_service.auth.problems import AddressRefused
from erp_service.settings import Settings

SECONDS = 300
"""How long an address is valid."""

_PURPOSE = b"erp_service signed address 1"
# format, user, version of their authority, expiry in seconds of Unix time, family of their tokens
_PAYLOAD = struct.Struct(">BQIQ16s")
_FORMAT = 2
# what the version before signs: no family. It is read for the five minutes that such an address lives after a roll.
_OLD_PAYLOAD = struct.Struct(">BQQQ")
_OLD_FORMAT = 1
_DIGEST_BYTES = 32
# 69 and 57 bytes are exactly 92 and 76 characters, with no unused bits: no two texts decode to the same signature
_SIGNATURE = re.compile(r"[A-Za-z0-9_-]{92}|[A-Za-z0-9_-]{76}", re.ASCII)


class Signed(msgspec.Struct, frozen=True):
    """The user for whom an address was signed, the version of their authority, and the sign-in that it ends with;
    `expires_at` is in Unix time. Only addresses of the version before have no `family`."""

    user_id: int
    version: int
    expires_at: int
    family: UUID | None


class SignedUrls:
    """Signs with the newest secret and accepts all of them, as tokens do. Its keys are not those of tokens."""

    def __init__(self, settings: Settings) -> None:
        self._keys = [derive_key(secret.encode(), _PURPOSE) for secret in settings.jwt_secrets]

    def sign(self, path: str, signed: Signed) -> str:
        """The address: `path` with the signature as its query."""
        if signed.family is None:
            raise ValueError("an address ends with a sign-in")
        payload = _PAYLOAD.pack(_FORMAT, signed.user_id, signed.version, signed.expires_at, signed.family.bytes)
        signature = base64.urlsafe_b64encode(payload + _mac(self._keys[0], payload, path))
        return f"{path}?signature={signature.decode()}"

    def read(self, signature: str, path: str, *, now: float | None = None) -> Signed:
        """Raises AddressRefused unless the signature is for this path and has not expired. The caller must check that
        the method is one that reads."""
        if not _SIGNATURE.fullmatch(signature):
            raise AddressRefused("The signature is not whole.")
        raw = base64.urlsafe_b64decode(signature)
        payload, mac = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
        # every key is tried, whichever matches, so that the time reveals nothing
        matches = [hmac.compare_digest(mac, _mac(key, payload, path)) for key in self._keys]
        if len(payload) == _PAYLOAD.size:
            format_, user_id, version, expires_at, family = _PAYLOAD.unpack(payload)
            known, signed = _FORMAT, Signed(user_id, version, expires_at, UUID(bytes=family))
        else:
            format_, user_id, version, expires_at = _OLD_PAYLOAD.unpack(payload)
            known, signed = _OLD_FORMAT, Signed(user_id, version, expires_at, None)
        if not any(matches) or format_ != known:
            raise AddressRefused("The signature is not of this address.")
        if (time.time() if now is None else now) >= expires_at:
            raise AddressRefused("The time of the address is over.")
        return signed


def _mac(key: bytes, payload: bytes, path: str) -> bytes:
    return hmac.digest(key, payload + path.encode(), "sha256")


def derive_key(secret: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) without salt, 32 bytes: the key of one purpose reveals no other key and no secret."""
    extracted = hmac.digest(bytes(_DIGEST_BYTES), secret, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")
