"""Access tokens: short-lived JWTs that say who, never what: authority is looked up, so it can be taken away."""

import hashlib
import time
from uuid import UUID

import jwt
import msgspec

from erp_service import errors
from erp_service.settings import Settings

ISSUER = "erp_service"
AUDIENCE = "erp_service/api"
LEEWAY = 10  # seconds by which the clocks of two hosts may differ


class Claims(msgspec.Struct, frozen=True):
    """`version` is the user's authority_version at issue; `family` the refresh family, so that log-out finds it;
    `expires_at` is in Unix time, and 0 before the token is issued."""

    user_id: int
    version: int
    family: UUID
    expires_at: int = 0


def key_id(secret: str) -> str:
    """Names a secret without giving it away (`kid`, RFC 7515)."""
    return hashlib.sha256(b"kid:" + secret.encode()).hexdigest()[:16]


class Tokens:
    """Signs with the newest secret and reads all of them, so that secrets can be rotated with nobody signed out."""

    def __init__(self, settings: Settings) -> None:
        self._keys = {key_id(secret): secret for secret in settings.jwt_secrets}
        self._newest = key_id(settings.jwt_secrets[0])
        self.seconds = settings.access_token_seconds

    def issue(self, claims: Claims, *, now: float | None = None) -> str:
        at = int(time.time() if now is None else now)
        payload = {
            "sub": str(claims.user_id),
            "ver": claims.version,
            "fam": str(claims.family),
            "use": "access",
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": at,
            "exp": at + self.seconds,
        }
        return jwt.encode(payload, self._keys[self._newest], "HS256", headers={"kid": self._newest})

    def read(self, token: str) -> Claims:
        """Raises errors.Unauthorized for a token that is expired, forged, malformed or of another kind."""
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(
                token,
                key,
                ["HS256"],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
            if claims.get("use") != "access" or not str(claims["sub"]).isdecimal():
                raise jwt.InvalidTokenError
            says = {"user_id": int(claims["sub"]), "version": claims["ver"], "family": claims["fam"]}
            return msgspec.convert({**says, "expires_at": int(claims["exp"])}, Claims)
        except jwt.ExpiredSignatureError:
            raise _refused("The access token has expired.") from None
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, msgspec.ValidationError, RecursionError):
            raise _refused("The access token is not valid.") from None


def _refused(detail: str) -> errors.Unauthorized:
    return errors.Unauthorized(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
