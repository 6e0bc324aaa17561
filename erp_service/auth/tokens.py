"""Access tokens: short-lived JWTs that name the user and no role. What the user may do is looked up at each request, so
that it can be taken away."""

import hashlib
import time
from collections import OrderedDict
from typing import Annotated
from uuid import UUID

import jwt
import msgspec
from msgspec import Meta

from erp_service import errors
from erp_service.errors import INTEGER_LIMIT
from erp_service.settings import Settings

ISSUER = "erp_service"
AUDIENCE = "erp_service/api"
LEEWAY = 10  # seconds by which the clocks of two hosts may differ
_MOST_VERIFIED = 4096  # tokens that are remembered; nobody can add one who has none


class Claims(msgspec.Struct, frozen=True):
    """What a token is issued for. `version` is the user's authority_version at that time; `family` is the refresh
    family, which signing out revokes."""

    user_id: Annotated[int, Meta(ge=1, le=INTEGER_LIMIT)]
    version: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    family: UUID


class TokenClaims(Claims, frozen=True):
    """What a token says that was issued. `expires_at` is in Unix time."""

    expires_at: Annotated[int, Meta(ge=0, le=INTEGER_LIMIT)]


def key_id(secret: str) -> str:
    """A name for a secret that does not reveal it (`kid`, RFC 7515, 4.1.4)."""
    return hashlib.sha256(b"kid:" + secret.encode()).hexdigest()[:16]


class Tokens:
    """Signs with the newest secret and accepts all of them, so that a rotation of secrets signs nobody out."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = {key_id(secret): secret for secret in settings.jwt_secrets}
        self._newest = key_id(settings.jwt_secrets[0])
        self.seconds = settings.access_token_seconds
        self._verified: OrderedDict[str, TokenClaims] = OrderedDict()

    def issue(self, claims: Claims, *, now: float | None = None) -> str:
        issued_at = int(time.time() if now is None else now)
        payload = {
            "sub": str(claims.user_id),
            "ver": claims.version,
            "fam": str(claims.family),
            "use": "access",
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": issued_at,
            "exp": issued_at + self.seconds,
        }
        return jwt.encode(payload, self._secrets[self._newest], "HS256", headers={"kid": self._newest})

    def read(self, token: str) -> TokenClaims:
        """Raises errors.Unauthorized for a token that is expired, forged, malformed or of another kind.

        A token that was verified once stays verified until it expires, since its signature does not change."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verified[token] = self._verify(token)
            if len(self._verified) > _MOST_VERIFIED:
                self._verified.popitem(last=False)
        elif claims.expires_at + LEEWAY <= time.time():
            del self._verified[token]
            raise _expired()
        return claims

    def _verify(self, token: str) -> TokenClaims:
        try:
            secret = self._secrets[jwt.get_unverified_header(token)["kid"]]
            payload = jwt.decode(
                token,
                secret,
                ["HS256"],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
            if payload.get("use") != "access" or not str(payload["sub"]).isdecimal():
                raise jwt.InvalidTokenError
            if not all(_is_time(payload.get(claim, 0)) for claim in ("exp", "iat", "nbf")):
                raise jwt.InvalidTokenError
            claims = {"user_id": int(payload["sub"]), "version": payload["ver"], "family": payload["fam"]}
            return msgspec.convert({**claims, "expires_at": int(payload["exp"])}, TokenClaims)
        except jwt.ExpiredSignatureError:
            raise _expired() from None
        except (
            jwt.InvalidTokenError,
            KeyError,
            TypeError,
            ValueError,
            OverflowError,
            msgspec.ValidationError,
            RecursionError,
        ):
            raise _refused("The access token is not valid.") from None


def _is_time(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= INTEGER_LIMIT


def _expired() -> errors.Unauthorized:
    return _refused("The access token has expired.")


def _refused(detail: str) -> errors.Unauthorized:
    return errors.Unauthorized(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
