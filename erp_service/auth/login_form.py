"""The log-in form, read by ourselves: the framework keeps the last 1,024 form bodies, passwords included, in a cache.

(litestar/_parsers.py: `parse_url_encoded_form_data` is an lru_cache by body.)
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from erp_service import errors
from erp_service.auth.passwords import LONGEST
from erp_service.auth.schemas import LONGEST_EMAIL, Credentials
from erp_service.errors import Fault

MEDIA_TYPE = "application/x-www-form-urlencoded"
LARGEST = 16 * 1024  # bytes

_LIMITS = {"username": LONGEST_EMAIL, "password": LONGEST}
_IGNORED = ("grant_type", "scope", "client_id", "client_secret")


@dataclass
class FormOperation(Operation):
    """Documents the form, which the route reads from the request itself."""

    def __post_init__(self) -> None:
        text = {name: Schema(type=OpenAPIType.STRING, min_length=1, max_length=n) for name, n in _LIMITS.items()}
        text["username"].description = "The e-mail."
        ignored = {name: Schema(type=OpenAPIType.STRING, description="Ignored.") for name in _IGNORED}
        schema = Schema(type=OpenAPIType.OBJECT, properties={**text, **ignored}, required=list(_LIMITS))
        self.request_body = RequestBody(required=True, content={MEDIA_TYPE: OpenAPIMediaType(schema=schema)})


async def credentials(request: Request[Any, Any, Any]) -> Credentials:
    """The form of the OAuth 2.0 password grant (RFC 6749, 4.3.2); fields it does not know are let be.

    Raises errors.UnsupportedMedia, errors.Malformed, or errors.Invalid that names every bad field."""
    if request.content_type[0].lower() != MEDIA_TYPE:
        raise errors.UnsupportedMedia(f"Send the form as {MEDIA_TYPE}.")
    try:
        fields = parse_qsl((await request.body()).decode(), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise errors.Malformed("The form is not percent-encoded UTF-8, or has too many fields.") from None
    given: dict[str, list[str]] = {name: [v for n, v in fields if n == name] for name in _LIMITS}
    if faults := [f for name, values in given.items() for f in _faults(name, values)]:
        raise errors.Invalid(None, *faults)
    return Credentials(given["username"][0].strip(), given["password"][0])


def _faults(name: str, values: list[str]) -> list[Fault]:
    pointer = f"/{name}"
    if len(values) != 1:
        return [Fault("is given more than once" if values else "is missing", pointer=pointer)]
    if not 1 <= len(values[0]) <= _LIMITS[name]:
        return [Fault(f"must be 1 to {_LIMITS[name]} characters long", pointer=pointer)]
    if "\0" in values[0]:
        return [Fault("must not contain NUL", pointer=pointer)]
    return []
