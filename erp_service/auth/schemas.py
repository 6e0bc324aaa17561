"""The bodies of requests and responses about users and their sign-ins."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from erp_service.access.roles import Role
from erp_service.auth.emails import Email
from erp_service.db.pagination import Page
from erp_service.texts import Label

SHORTEST = 12  # characters of a password (NIST SP 800-63B asks for at least 8, and for 64 to be possible)
LONGEST = 200
LONGEST_CODE = 64  # characters that may be typed for a code of a second factor; a recovery code has 29

EmailAddress = Annotated[
    Email, Meta(description="Unique; upper and lower case count as the same.", examples=["grace@example.com"])
]


class FullNameText(Label):
    longest = 200


class ReasonText(Label):
    longest = 500


FullName = Annotated[FullNameText, Meta(description="the name", examples=["Grace Hopper"])]
Reason = Annotated[ReasonText, Meta(description="Kept in the audit log.")]
NewPassword = Annotated[
    str,
    Meta(
        min_length=SHORTEST,
        max_length=LONGEST,
        description="On no list of breached ones, not made of the user's e-mail or name, and not nearly the old one.",
        examples=["a long walk by the sea"],
    ),
]
CurrentPassword = Annotated[str, Meta(description="the one that is valid now", min_length=1, max_length=LONGEST)]


class Redacted(msgspec.Struct, frozen=True):
    """Holds a secret. Its `repr` is the name of its type alone, so that no log and no traceback shows the secret."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class LoginCredentials(Redacted, frozen=True):
    """`code` is of the second factor; None if there is none in the form."""

    email: str
    password: str
    code: str | None = None


class TokenPair(Redacted, frozen=True, kw_only=True):
    """The answer of RFC 6749, 5.1. `expires_in` is the lifetime of the access token, in seconds."""

    access_token: Annotated[str, Meta(description="for `Authorization: Bearer ...`")]
    refresh_token: Annotated[str, Meta(description="Works once, at `POST /api/v1/auth/refresh`.")]
    token_type: Annotated[str, Meta(description="always `bearer`", examples=["bearer"])] = "bearer"  # noqa: S105
    expires_in: Annotated[int, Meta(description="how long the access token lives, in seconds", examples=[900])]


class RefreshRequest(Redacted, frozen=True, forbid_unknown_fields=True):
    refresh_token: Annotated[str, Meta(description="of the newest pair", min_length=1, max_length=200)]


class PasswordChange(Redacted, frozen=True, forbid_unknown_fields=True):
    old_password: CurrentPassword
    new_password: NewPassword


class PasswordReset(Redacted, frozen=True, forbid_unknown_fields=True):
    new_password: NewPassword


class NewUser(Redacted, frozen=True, forbid_unknown_fields=True, kw_only=True):
    email: EmailAddress
    full_name: FullName
    role: Annotated[Role, Meta(description="what the user may do")] = Role.VIEWER
    password: NewPassword
    must_change_password: Annotated[
        bool,
        Meta(
            description="true: the user must change the password before anything else, within 7 days; for people, since"
            " somebody else knows it"
        ),
    ] = False


class UserChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Replaces `email` and `full_name`. `role` and `is_active` stay as they are if left out."""

    email: EmailAddress
    full_name: FullName
    role: Annotated[Role | UnsetType, Meta(description="what the user may do; stays as it is if left out")] = UNSET
    is_active: Annotated[
        bool | UnsetType, Meta(description="whether the user may sign in; stays as it is if left out")
    ] = UNSET


class RoleChange(msgspec.Struct, forbid_unknown_fields=True):
    role: Annotated[Role, Meta(description="the new role")]
    reason: Reason


class UserOut(msgspec.Struct, frozen=True):
    id: Annotated[int, Meta(description="the id")]
    email: Annotated[str, Meta(description="what the user signs in with", examples=["grace@example.com"])]
    full_name: Annotated[str, Meta(description="the name", examples=["Grace Hopper"])]
    role: Annotated[Role, Meta(description="what the user may do")]
    is_active: Annotated[bool, Meta(description="false: the user was deactivated, and cannot sign in")]
    created_at: Annotated[datetime, Meta(description="when the user was created")]
    last_login_at: Annotated[datetime | None, Meta(description="the last sign-in; null before the first")]
    second_factor: Annotated[bool, Meta(description="true: signing in takes a second factor, too")]


class SignInOut(msgspec.Struct, frozen=True):
    """One sign-in, which lasts as long as its tokens are refreshed."""

    id: Annotated[UUID, Meta(description="the id of the sign-in")]
    user_id: Annotated[int, Meta(description="who signed in")]
    created_at: Annotated[datetime, Meta(description="when")]
    last_used_at: Annotated[
        datetime, Meta(description="when its newest token was issued: at sign-in, or by a refresh; not at each request")
    ]
    expires_at: Annotated[datetime, Meta(description="when it ends unless it is refreshed")]
    address: Annotated[str | None, Meta(description="the network address it was made from; null if unknown")]
    user_agent: Annotated[
        str | None, Meta(description="what the program called itself, 200 characters at most; null if it said nothing")
    ]
    second_factor: Annotated[bool, Meta(description="true: a second factor was shown, too")]
    current: Annotated[bool, Meta(description="true: the one that this request belongs to")]


class SignInPage(Page[SignInOut]):
    """One page of sign-ins."""

    items: Annotated[list[SignInOut], Meta(description="sign-ins, newest first")]


class UserPage(Page[UserOut]):
    """One page of users."""

    items: Annotated[list[UserOut], Meta(description="users")]
