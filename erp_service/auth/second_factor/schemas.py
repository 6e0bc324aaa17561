"""The bodies of requests and responses about second factors."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from erp_service.auth.schemas import LONGEST_CODE, CurrentPassword, Reason, Redacted

Code = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_CODE,
        description="The code that your device shows, or a recovery code; blanks and hyphens do not matter.",
    ),
]


class SecondFactorOut(msgspec.Struct, frozen=True):
    """What a user may know of their own second factor."""

    since: Annotated[datetime | None, Meta(description="when it was confirmed; null: there is none")]
    recovery_codes: Annotated[int, Meta(description="how many recovery codes are left")]
    required: Annotated[bool, Meta(description="true: by the settings of the company, your role must have one")]


class EnrolmentStart(Redacted, frozen=True, forbid_unknown_fields=True):
    password: CurrentPassword
    code: Annotated[
        Code | UnsetType, Meta(description="of the present second factor, if there is one: it is replaced")
    ] = UNSET


class Enrolment(Redacted, frozen=True):
    secret: Annotated[str, Meta(description="the secret in base32, to be typed into the device")]
    uri: Annotated[
        str, Meta(description="the same as an otpauth address in the name of the company, to be shown as a QR code")
    ]
    expires_at: Annotated[datetime, Meta(description="until when a code of it must be confirmed")]


class EnrolmentCode(Redacted, frozen=True, forbid_unknown_fields=True):
    code: Annotated[str, Meta(min_length=1, max_length=LONGEST_CODE, description="The code that the device shows.")]


class SecondFactorProof(Redacted, frozen=True, forbid_unknown_fields=True):
    """Both factors: a stolen token is not enough."""

    password: CurrentPassword
    code: Code


class RecoveryCodes(Redacted, frozen=True):
    recovery_codes: Annotated[
        list[str], Meta(description="Each works once in place of the device. They are not shown again.")
    ]


class SecondFactorReset(msgspec.Struct, forbid_unknown_fields=True):
    reason: Reason
