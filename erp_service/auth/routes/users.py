"""The routes of the management of users."""

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys, Scope
from erp_service.auth import queries, users
from erp_service.auth.login.context import LoginContext
from erp_service.auth.problems import EmailTaken, OwnAccount, RoleOutOfReach
from erp_service.auth.routes.new_user import HASHED_FIRST
from erp_service.auth.schemas import NewUser, PasswordReset, RoleChange, UserChange, UserOut, UserPage
from erp_service.auth.second_factor.schemas import SecondFactorReset
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.web.merge_patch import Edit, MergePatch, Replacement
from erp_service.web.query_params import DEFAULT_LIMIT, Cursor, Limit
from erp_service.web.responses import ApiResponse, created, require_match, tagged
from erp_service.web.routing import Id, IfMatch, delete, get, patch, post, put

_MOVING = frozenset({"last_login_at"})


class UserReplacement(Replacement[UserChange, UserOut]):
    moving = _MOVING


class UserPatch(MergePatch[UserChange, UserOut]):
    moving = _MOVING


_BASE = "/api/v1/users"
_ONE = f"{_BASE}/{{user_id:int}}"
_TAGS = ["users"]


@get(_BASE, role=Role.ADMIN, scope=Scope.USERS_READ, summary="List users", tags=_TAGS)
async def list_users(
    read: NamedDependency[ReadSession],
    role: Annotated[Role | None, QueryParameter(description="only users with exactly this role")] = None,
    is_active: Annotated[
        bool | None, QueryParameter(description="only active or only deactivated users; both if left out")
    ] = None,
    q: Annotated[str | None, QueryParameter(max_length=200, description="a part of the e-mail or of the name")] = None,
    sort: Annotated[
        str | None, QueryParameter(max_length=50, description="`id` (the default), `email`, `created_at`; `-` reverses")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> ApiResponse[UserPage]:
    """All users, deactivated ones included."""
    return ApiResponse(
        await queries.users(read, role=role, is_active=is_active, q=q, sort=sort, limit=limit, cursor=cursor)
    )


@post(
    _BASE,
    role=Role.ADMIN,
    scope=Scope.USERS_WRITE,
    summary="Create a user",
    tags=_TAGS,
    problems=(EmailTaken, RoleOutOfReach),
    dependencies=HASHED_FIRST,
    example={
        "email": "grace@example.com",
        "full_name": "Grace Hopper",
        "role": "STAFF",
        "password": "seven grey geese at dusk",
    },
)
async def create_user(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    password_hash: NamedDependency[str],
    data: JSONBody[NewUser],
) -> ApiResponse[UserOut]:
    """An ADMIN may grant the roles VIEWER and STAFF, a SUPER_ADMIN any role."""
    user = await users.register(write, who, data, password_hash)
    return created(user, f"{_BASE}/{user.id}", version=1)


@get(_ONE, role=Role.ADMIN, scope=Scope.USERS_READ, summary="A user", tags=_TAGS)
async def get_user(read: NamedDependency[ReadSession], user_id: Id) -> ApiResponse[UserOut]:
    """`last_login_at` does not change the `ETag`."""
    return tagged(*await queries.user(read, user_id))


@put(
    _ONE,
    role=Role.ADMIN,
    scope=Scope.USERS_WRITE,
    summary="Replace a user",
    tags=_TAGS,
    problems=(EmailTaken, RoleOutOfReach, OwnAccount),
    operation_id="replace_user",
    example={"email": "sam@example.com", "full_name": "Sam Okafor-Lane"},
)
async def update_user(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    user_id: Id,
    data: JSONBody[UserReplacement],
    if_match: IfMatch = None,
) -> ApiResponse[UserOut]:
    """A change of role or activation ends all sign-ins of the user on every instance within a second.

    A body as GET shows it is taken: what a client cannot write is ignored if it is unchanged, and refused if it is
    not."""
    return await _change(write, who, user_id, data, if_match)


@patch(
    _ONE,
    role=Role.ADMIN,
    scope=Scope.USERS_WRITE,
    summary="Change a user",
    tags=_TAGS,
    problems=(EmailTaken, RoleOutOfReach, OwnAccount),
    example={"full_name": "Sam Okafor-Lane"},
)
async def patch_user(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    user_id: Id,
    data: JSONBody[UserPatch],
    if_match: IfMatch = None,
) -> ApiResponse[UserOut]:
    """A merge patch (RFC 7396): a field that is left out stays as it is. The rules are those of PUT."""
    return await _change(write, who, user_id, data, if_match)


async def _change(
    db: WriteSession, who: Principal, user_id: int, data: Edit[UserChange, UserOut], if_match: str | None
) -> ApiResponse[UserOut]:
    locked = await users.lock_for_update(db, who, user_id)
    require_match(if_match, locked.version)
    locked = await users.change(db, who, locked, data.over(locked.user))
    return tagged(locked.user, locked.version)


@delete(
    _ONE,
    role=Role.ADMIN,
    scope=Scope.USERS_WRITE,
    summary="Deactivate a user",
    tags=_TAGS,
    problems=(RoleOutOfReach, OwnAccount),
)
async def deactivate_user(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], user_id: Id, if_match: IfMatch = None
) -> ApiResponse[None]:
    """Users are never deleted, since the stock ledger and the audit log refer to them. Ends all their sign-ins within a
    second."""
    locked = await users.lock_for_update(write, who, user_id)
    require_match(if_match, locked.version)
    await users.deactivate(write, who, locked)
    return ApiResponse(None, status_code=204)


@post(
    f"{_ONE}/reactivate",
    role=Role.ADMIN,
    scope=Scope.USERS_WRITE,
    status_code=200,
    summary="Reactivate a user",
    tags=_TAGS,
    problems=(RoleOutOfReach, OwnAccount),
)
async def reactivate_user(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], user_id: Id
) -> ApiResponse[UserOut]:
    """The user has the role and the password from before again."""
    locked = await users.lock_for_update(write, who, user_id)
    locked = await users.reactivate(write, who, locked)
    return tagged(locked.user, locked.version)


@post(
    f"{_ONE}/role",
    role=Role.ADMIN,
    scope=Scope.USERS_WRITE,
    status_code=200,
    summary="Change a role",
    tags=_TAGS,
    problems=(RoleOutOfReach, OwnAccount),
    operation_id="change_user_role",
    example={"role": "VIEWER", "reason": "works at the till only"},
)
async def change_role(
    write: NamedDependency[WriteSession], who: NamedDependency[Principal], user_id: Id, data: JSONBody[RoleChange]
) -> ApiResponse[UserOut]:
    """The audit log keeps the user before and after, and the reason. Ends all sign-ins of the user on every instance
    within a second."""
    locked = await users.lock_for_update(write, who, user_id)
    locked = await users.change_role(write, who, locked, data)
    return tagged(locked.user, locked.version)


@post(
    f"{_ONE}/reset-password",
    role=Role.SUPER_ADMIN,
    scope=Keys.NONE,
    status_code=204,
    summary="Set another user's password",
    tags=_TAGS,
    idempotent=False,
    problems=(OwnAccount,),
    operation_id="reset_user_password",
    example={"new_password": "paper boats on the mill pond"},
)
async def reset_password(
    who: NamedDependency[Principal], login: NamedDependency[LoginContext], user_id: Id, data: JSONBody[PasswordReset]
) -> ApiResponse[None]:
    """The user must change it before anything else, and cannot sign in with it after 7 days. Ends all sign-ins of the
    user on every instance within a second."""
    await users.reset_password(login, who, user_id, data.new_password)
    return ApiResponse(None, status_code=204)


@post(
    f"{_ONE}/reset-totp",
    role=Role.SUPER_ADMIN,
    scope=Keys.NONE,
    status_code=204,
    summary="Remove another user's second factor",
    tags=_TAGS,
    problems=(OwnAccount,),
    operation_id="reset_second_factor",
    example={"reason": "lost the telephone and the recovery codes, identified in person"},
)
async def reset_second_factor(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    user_id: Id,
    data: JSONBody[SecondFactorReset],
) -> ApiResponse[None]:
    """For whoever has lost the device and the recovery codes: be sure who it is first. The password alone is enough
    again at log-in, until a new second factor is set up. Ends all sign-ins of the user on every instance within a
    second. Of a user without one, nothing is changed."""
    await users.reset_second_factor(write, who, user_id, data.reason)
    return ApiResponse(None, status_code=204)


ROUTES = [
    list_users,
    create_user,
    get_user,
    update_user,
    patch_user,
    deactivate_user,
    reactivate_user,
    change_role,
    reset_password,
    reset_second_factor,
]
