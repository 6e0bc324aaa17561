"""The secrets of second factors are encrypted at rest, with a key that is derived from ERP_JWT_SECRET: whoever reads a
dump, a backup or the table has none of them. Unlike passwords they cannot be hashed, since each check needs them.

Encrypted with the newest secret, read with all of them, as tokens are; rotation.py encrypts anew. Without the secret,
nothing but second factors is lost: whoever has one is let in by `erp create-user EMAIL --reset-totp`."""

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from erp_service import errors
from erp_service.observability import telemetry
from erp_service.settings import Settings

_PURPOSE = b"erp_service second factor 1"


class SecretBox:
    """Fernet (AES-128-CBC with HMAC-SHA-256) with each of the secrets, newest first."""

    def __init__(self, settings: Settings) -> None:
        keys = [_key(secret) for secret in settings.jwt_secrets]
        self._box, self._newest = MultiFernet(keys), keys[0]
        self.rotates = len(keys) > 1

    def seal(self, secret: str) -> str:
        return self._box.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Raises errors.Unavailable if none of the secrets can: the one it was encrypted with is missing."""
        try:
            return self._box.decrypt(sealed).decode()
        except InvalidToken:
            telemetry.log.error("a second factor cannot be decrypted: its secret is no longer in ERP_JWT_SECRET")
            raise errors.Unavailable(
                "Your second factor cannot be read. The operator has to put back the secret of before, or to reset it."
            ) from None

    def is_outdated(self, sealed: str) -> bool:
        """It was encrypted with a secret that is not the newest."""
        try:
            self._newest.decrypt(sealed)
        except InvalidToken:
            return True
        return False


def _key(secret: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
