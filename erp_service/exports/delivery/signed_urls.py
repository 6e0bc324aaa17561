"""Addresses that need no token: for a browser's download, an EventSource, a program that somebody gives one to.

A signature says who may use the address, until when, and by which version of their rights; it is bound to the path and
to reading. It travels in a query, which ends up in histories and in logs of others, so it lives for minutes."""

import base64
import hmac
import re
import struct
import time

import msgspec

from erp_service.auth.problems import AddressRefused
from erp_service.settings import Settings

SECONDS = 300
"""How long an address lives."""

_PURPOSE = b"erp_service signed address 1"
_SAYS = struct.Struct(">BQQQ")  # format, user, version of their authority, expiry in seconds of Unix time
_FORMAT = 1
_DIGEST_BYTES = 32
# 57 bytes are 76 characters and no bit more, so that no two signatures mean the same
_SIGNATURE = re.compile(r"[A-Za-z0-9_-]{76}", re.ASCII)


class Signed(msgspec.Struct, frozen=True):
    """For whom an address was signed, with which version of their authority; it ends at `expires_at`, in Unix time."""

    user_id: int
    version: int
    expires_at: int


class SignedUrls:
    """Signs with the newest secret and reads all of them, as with tokens; the keys are no keys of tokens."""

    def __init__(self, settings: Settings) -> None:
        self._keys = [derived(secret.encode(), _PURPOSE) for secret in settings.jwt_secrets]

    def sign(self, path: str, signed: Signed) -> str:
        """The address: `path` with the signature as its query."""
        says = _SAYS.pack(_FORMAT, signed.user_id, signed.version, signed.expires_at)
        signature = base64.urlsafe_b64encode(says + _mac(self._keys[0], says, path))
        return f"{path}?signature={signature.decode()}"

    def read(self, signature: str, path: str, *, now: float | None = None) -> Signed:
        """Raises AddressRefused unless it is for this path and its time is not over. Says nothing of the method, which
        must be one that reads."""
        if not _SIGNATURE.fullmatch(signature):
            raise AddressRefused("The signature is not whole.")
        raw = base64.urlsafe_b64decode(signature)
        says, mac = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
        # every key is tried, whichever fits, so that the time tells nothing
        fits = [hmac.compare_digest(mac, _mac(key, says, path)) for key in self._keys]
        format_, user_id, version, expires_at = _SAYS.unpack(says)
        if not any(fits) or format_ != _FORMAT:
            raise AddressRefused("The signature is not of this address.")
        if (time.time() if now is None else now) >= expires_at:
            raise AddressRefused("The time of the address is over.")
        return Signed(user_id, version, expires_at)


def _mac(key: bytes, says: bytes, path: str) -> bytes:
    return hmac.digest(key, says + path.encode(), "sha256")


def derived(secret: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) without salt, 32 bytes: who learns one purpose's key learns no other and no secret."""
    extracted = hmac.digest(bytes(_DIGEST_BYTES), secret, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")
