"""The routes of one's own second factor."""

from typing import Any

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import JSONBody

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.auth.login.context import LoginContext
from erp_service.auth.problems import NoSecondFactor, SecondFactorKept
from erp_service.auth.second_factor import service
from erp_service.auth.second_factor.schemas import (
    Enrolment,
    EnrolmentCode,
    EnrolmentStart,
    RecoveryCodes,
    SecondFactorOut,
    SecondFactorProof,
)
from erp_service.auth.tokens import TokenClaims
from erp_service.db.sessions import ReadSession
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import delete, get, post

_BASE = "/api/v1/auth/me/totp"
_TAGS = ["auth"]


@get(
    _BASE,
    role=Role.VIEWER,
    scope=Keys.NONE,
    summary="Your second factor",
    tags=_TAGS,
    operation_id="get_second_factor",
    without_second_factor=True,
)
async def get_second_factor(
    request: Request[Principal, TokenClaims, Any], read: NamedDependency[ReadSession]
) -> ApiResponse[SecondFactorOut]:
    """Whether there is one, whether your role must have one, and how many recovery codes are left."""
    return ApiResponse(await service.second_factor_of(read, request.auth.user_id))


@post(
    _BASE,
    role=Role.VIEWER,
    scope=Keys.NONE,
    status_code=200,
    summary="Begin a second factor",
    tags=_TAGS,
    idempotent=False,
    problems=(errors.TooMany,),
    operation_id="start_second_factor",
    without_second_factor=True,
)
async def start_second_factor(
    request: Request[Principal, TokenClaims, Any],
    who: NamedDependency[Principal],
    login: NamedDependency[LoginContext],
    data: JSONBody[EnrolmentStart],
) -> ApiResponse[Enrolment]:
    """Answers with a secret for an authenticator (RFC 6238: SHA-1, 6 digits, 30 s), which is not shown again. It takes
    effect when a code of it is confirmed, within 30 minutes.

    Needs your password, and a code too if you have a second factor: it is then replaced, and stays in force until the
    new one is confirmed. Wrong ones count like failed log-ins."""
    return ApiResponse(await service.start(login, who, request.auth, data))


@post(
    f"{_BASE}/confirm",
    role=Role.VIEWER,
    scope=Keys.NONE,
    status_code=200,
    summary="Confirm a second factor",
    tags=_TAGS,
    idempotent=False,
    problems=(NoSecondFactor, errors.TooMany),
    operation_id="confirm_second_factor",
    without_second_factor=True,
)
async def confirm_second_factor(
    request: Request[Principal, TokenClaims, Any],
    who: NamedDependency[Principal],
    login: NamedDependency[LoginContext],
    data: JSONBody[EnrolmentCode],
) -> ApiResponse[RecoveryCodes]:
    """From now on, log-in takes a code. Ends all your other sign-ins.

    Answers with ten recovery codes for the day when the device is lost: keep them on paper. They are not shown
    again."""
    return ApiResponse(await service.confirm(login, who, request.auth, data.code))


@delete(
    _BASE,
    role=Role.VIEWER,
    scope=Keys.NONE,
    summary="Remove your second factor",
    tags=_TAGS,
    problems=(NoSecondFactor, SecondFactorKept, errors.TooMany),
    operation_id="remove_second_factor",
)
async def remove_second_factor(
    request: Request[Principal, TokenClaims, Any],
    who: NamedDependency[Principal],
    login: NamedDependency[LoginContext],
    data: JSONBody[SecondFactorProof],
) -> ApiResponse[None]:
    """Needs your password and a code, or a recovery code. Ends all your other sign-ins. Refused while the settings of
    the company require one of your role."""
    await service.remove(login, who, request.auth, data)
    return ApiResponse(None, status_code=204)


@post(
    f"{_BASE}/recovery-codes",
    role=Role.VIEWER,
    scope=Keys.NONE,
    status_code=200,
    summary="Get new recovery codes",
    tags=_TAGS,
    idempotent=False,
    problems=(NoSecondFactor, errors.TooMany),
    operation_id="renew_recovery_codes",
)
async def renew_recovery_codes(
    request: Request[Principal, TokenClaims, Any],
    who: NamedDependency[Principal],
    login: NamedDependency[LoginContext],
    data: JSONBody[SecondFactorProof],
) -> ApiResponse[RecoveryCodes]:
    """Those of before are worthless from now on."""
    return ApiResponse(await service.renew_recovery_codes(login, who, request.auth, data))


ROUTES = [
    get_second_factor,
    start_second_factor,
    confirm_second_factor,
    remove_second_factor,
    renew_recovery_codes,
]
