"""Reads the log-in form, instead of the framework: that keeps the last 1,024 form bodies, with their passwords, in a
cache (`parse_url_encoded_form_data` in litestar/_parsers.py is an lru_cache by body)."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from erp_service import errors
from erp_service.auth.emails import Email
from erp_service.auth.schemas import LONGEST, LONGEST_CODE, LoginCredentials
from erp_service.errors import Fault

MEDIA_TYPE = "application/x-www-form-urlencoded"

_LONGEST = {"username": Email.longest, "password": LONGEST}
_CODE = "totp"
_IGNORED = ("grant_type", "scope", "client_id", "client_secret")


@dataclass
class FormOperation(Operation):
    """Documents the form: the framework does not know of it, since the route reads it from the request itself."""

    def __post_init__(self) -> None:
        text = {name: Schema(type=OpenAPIType.STRING, min_length=1, max_length=n) for name, n in _LONGEST.items()}
        text["username"].description = "The e-mail."
        code = Schema(
            type=OpenAPIType.STRING,
            min_length=1,
            max_length=LONGEST_CODE,
            description="The code of the second factor, or a recovery code; only for users who have one.",
        )
        text[_CODE] = code
        ignored = {name: Schema(type=OpenAPIType.STRING, description="Ignored.") for name in _IGNORED}
        schema = Schema(type=OpenAPIType.OBJECT, properties={**text, **ignored}, required=list(_LONGEST))
        self.request_body = RequestBody(required=True, content={MEDIA_TYPE: OpenAPIMediaType(schema=schema)})


async def read_credentials(request: Request[Any, Any, Any]) -> LoginCredentials:
    """From the form of the OAuth 2.0 password grant (RFC 6749, 4.3.2); unknown fields are ignored.

    Raises errors.UnsupportedMedia, errors.Malformed, or errors.Invalid that names every bad field."""
    if request.content_type[0].lower() != MEDIA_TYPE:
        raise errors.UnsupportedMedia(f"Send the form as {MEDIA_TYPE}.")
    try:
        fields = parse_qsl((await request.body()).decode(), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise errors.Malformed("The form is not percent-encoded UTF-8, or has too many fields.") from None
    values: dict[str, list[str]] = {name: [v for n, v in fields if n == name] for name in _LONGEST}
    # a client may send every field of its form: an empty one is none
    codes = [value for name, value in fields if name == _CODE and value]
    faults = [fault for name in values for fault in _field_faults(name, values[name], _LONGEST[name])]
    faults += _field_faults(_CODE, codes, LONGEST_CODE) if codes else []
    if faults:
        raise errors.Invalid(None, *faults)
    return LoginCredentials(values["username"][0].strip(), values["password"][0], codes[0] if codes else None)


def _field_faults(name: str, values: list[str], longest: int) -> list[Fault]:
    pointer = f"/{name}"
    if len(values) != 1:
        return [Fault("is given more than once" if values else "is missing", pointer=pointer)]
    if not 1 <= len(values[0]) <= longest:
        return [Fault(f"must be 1 to {longest} characters long", pointer=pointer)]
    if "\0" in values[0]:
        return [Fault("must not contain NUL", pointer=pointer)]
    return []
