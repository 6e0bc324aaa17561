"""What can go wrong, as plain exceptions. The docstring of each is its problem page: it speaks to the caller."""

from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

INTEGER_LIMIT = 2**53 - 1  # the largest id that JavaScript and JSON Schema represent exactly


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One bad field: `pointer` into the body (RFC 6901), or the name of a query, path or header `parameter`."""

    detail: Annotated[str, Meta(description="what is wrong")]
    pointer: Annotated[
        str | None, Meta(description="the field of the body (RFC 6901); an empty one is the whole body")
    ] = None
    parameter: Annotated[str | None, Meta(description="the name of the query, path or header parameter")] = None


class RetryLater(msgspec.Struct):
    """The members of a problem that goes away by itself."""

    retry_after: Annotated[int | UnsetType, Meta(description="the seconds of the header `Retry-After`")] = UNSET


class Refused(Exception):
    """The base of every refusal that a caller can get. `members` are added to the problem: those of `extension`."""

    status: ClassVar[int] = 400
    slug: ClassVar[str]
    title: ClassVar[str]
    extension: ClassVar[type[msgspec.Struct] | None] = None

    def __init__(
        self,
        detail: str | None = None,
        *faults: Fault,
        headers: dict[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.faults = faults
        self.headers = headers or {}
        self.members = members


class Malformed(Refused):
    """The body is not JSON in UTF-8, or is nested too deep to be read."""

    status, slug, title = 400, "malformed", "The body cannot be read"


class BadRequest(Refused):
    """What was sent is not a request of HTTP/1.1 that this service can read: its first line, its header fields, or the
    chunks of its body. A library or a proxy on the way made it so."""

    status, slug, title = 400, "bad-request", "The request is not valid HTTP"


class Invalid(Refused):
    """Fields of the body, or parameters, are missing, unknown, of the wrong type, or have values that are not allowed.

    `errors` names every bad one: correct each and send the request again."""

    status, slug, title = 422, "invalid", "Invalid request"


class Unauthorized(Refused):
    """The access token is missing, expired, malformed, of the wrong kind, or its user is no longer active. Or the API
    key in its place is not known, was revoked, has expired, or whoever made it is no longer active.

    Sign in again at `POST /api/v1/auth/login`, or use the refresh token at `POST /api/v1/auth/refresh`. In place of an
    API key, an ADMIN makes another at `POST /api/v1/api-keys`."""

    status, slug, title = 401, "unauthorized", "Sign in first"


class Forbidden(Refused):
    """The role of the signed-in user does not allow this. Each endpoint's documentation names the least role."""

    status, slug, title = 403, "forbidden", "Your role does not allow this"


class MissingScope(msgspec.Struct):
    """What the key lacks."""

    scope: Annotated[str | UnsetType, Meta(description="the scope that the request needs")] = UNSET


class KeyScopeMissing(Refused):
    """The API key was not made for this: `scope` names the scope that it lacks.

    An ADMIN makes another key with that scope at `POST /api/v1/api-keys`; those of a key never change."""

    status, slug, title = 403, "api-key-scope", "The API key lacks a scope"
    extension = MissingScope


class NotForKeys(Refused):
    """No API key may do this, whatever its scopes: passwords, sign-ins and API keys are for people in person.

    Sign in at `POST /api/v1/auth/login` and send the access token."""

    status, slug, title = 403, "not-for-api-keys", "Not for API keys"


class KeyNetworkRefused(Refused):
    """The API key may only be used from certain networks, and this request came from another: `detail` names the
    address that the service saw.

    If that is the address of your own proxy or load balancer, name it in `ERP_TRUSTED_PROXIES`. If the request was not
    yours, revoke the key at once: `DELETE /api/v1/api-keys/{id}`."""

    status, slug, title = 403, "api-key-network", "The API key may not be used from there"


class PasswordChangeRequired(Refused):
    """An administrator has set your password, so somebody else knows it. Until you have changed it, your tokens can do
    nothing else, and sign out.

    Change it with `PUT /api/v1/auth/me/password`; the answer has new tokens, which can do everything again."""

    status, slug, title = 403, "password-change-required", "Change your password first"


class SecondFactorRequired(Refused):
    """Your role must have a second factor, by the settings of the company, and you have none yet. Until then, your
    tokens can do nothing but set one up, read your profile, change your password, and sign out.

    Begin with `POST /api/v1/auth/me/totp`, and confirm it with `POST /api/v1/auth/me/totp/confirm`. Your tokens can
    then do everything again."""

    status, slug, title = 403, "second-factor-required", "Set up a second factor first"


class NotFound(Refused):
    """Nothing has this address or id, or it was deleted, or it belongs to somebody else."""

    status, slug, title = 404, "not-found", "Not found"


class MethodNotAllowed(Refused):
    """The address exists, but not for this method. The `Allow` header of the answer names those that do."""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class Conflict(Refused):
    """The request is well formed, but what is stored does not allow it now."""

    status, slug, title = 409, "conflict", "Conflict"


class Gone(Refused):
    """What was here has expired or was deleted, and will not come back."""

    status, slug, title = 410, "gone", "Gone"


class Stale(Refused):
    """Somebody changed the resource after you read it: its `ETag` is not the one in your `If-Match`.

    Read it again, apply your change to what it is now, and send that."""

    status, slug, title = 412, "stale", "The resource has changed"


class TooSlow(Refused):
    """The head of the request, or its body, did not arrive within 10 seconds. Nothing was changed.

    Send the request again, over a better connection or in smaller parts."""

    status, slug, title = 408, "request-timeout", "The request took too long to arrive"


class TooLarge(Refused):
    """The body is larger than this endpoint accepts: 1 MiB where lines are posted (unless the operator set otherwise),
    64 KiB elsewhere, 4 KiB where no token is needed.

    Send the lines in several documents."""

    status, slug, title = 413, "too-large", "Too large"


class UnsupportedMedia(Refused):
    """The body is of a media type that this endpoint does not read: it reads JSON; log-in reads a form. Or the body is
    compressed."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


class RangeNotSatisfiable(Refused):
    """The requested range begins after the end of the file."""

    status, slug, title = 416, "range-not-satisfiable", "Range not satisfiable"


class HeadTooLarge(Refused):
    """The request line and the headers are larger than 32 KiB together. Send shorter ones: most often a cookie, a token
    or a query string has grown."""

    status, slug, title = 431, "head-too-large", "The head of the request is too large"


class TooMany(Refused):
    """A limit was reached. Wait for the number of seconds in `Retry-After`, then try again."""

    status, slug, title = 429, "too-many-requests", "Too many requests"
    extension = RetryLater


class Unavailable(Refused):
    """The service cannot answer at this moment, most often because the database is unavailable.

    Nothing was changed. Try again after the number of seconds in `Retry-After`."""

    status, slug, title = 503, "unavailable", "Not available at this moment"
    extension = RetryLater


class Internal(Refused):
    """A fault of the service itself. It was logged with the `request_id`; give that id to the operator."""

    status, slug, title = 500, "internal", "Internal error"


class KeyReused(Refused):
    """This `Idempotency-Key` was used for another request: another method, path, query or body.

    Make a new key for each new request; send the same key only to retry the same request."""

    status, slug, title = 422, "idempotency-key-reused", "The Idempotency-Key belongs to another request"


class StillRunning(Refused):
    """The first request with this `Idempotency-Key` has not finished, perhaps on another instance.

    Wait for the number of seconds in `Retry-After`, then send the same request again: you get the first one's
    answer."""

    status, slug, title = 409, "still-running", "The first request with this Idempotency-Key is still running"
    extension = RetryLater


_constraints: dict[str, Callable[[], Refused]] = {}


def constraint(name: str, refusal: Callable[[], Refused]) -> None:
    """Say once, beside the table, which refusal a caller gets when the constraint `name` refuses a row."""
    if name in _constraints:
        raise ValueError(f"constraint {name} has a meaning already")
    _constraints[name] = refusal


def meaning_of(constraint_name: str | None) -> Refused | None:
    make = _constraints.get(constraint_name or "")
    return make() if make else None


def kinds() -> Iterator[type[Refused]]:
    """Every kind of refusal that any loaded module declares, each slug once."""
    unvisited: list[type[Refused]] = [Refused]
    seen: set[str] = set()
    while unvisited:
        kind = unvisited.pop()
        unvisited.extend(kind.__subclasses__())
        if (slug := getattr(kind, "slug", None)) and slug not in seen:
            seen.add(slug)
            yield kind
