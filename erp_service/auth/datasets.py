"""The datasets of users and of what an access review looks at, for exports."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.api_keys.validity import ACTIVE
from erp_service.registry.datasets import Column, Dataset, Filter, a_flag, a_time, one_of, search_filter

_FILTERS = (
    search_filter("erp_fold(u.email || E'\\n' || u.full_name)", "email", "full_name"),
    Filter("role", one_of(*Role), "u.role = {}", "this role"),
    Filter("is_active", a_flag, "u.is_active = {}", "active or not"),
)

USERS = Dataset(
    name="users",
    description="Who may sign in, and with which role.",
    role=Role.ADMIN,
    scope=Scope.USERS_READ,
    source="users u",
    key=("u.id",),
    sorts={"id": "u.id", "email": 'u.email collate "C"'},
    columns=(
        Column("id", "integer", "u.id", "the user's id"),
        Column("email", "text", "u.email", "their e-mail address"),
        Column("full_name", "text", "u.full_name", "their name"),
        Column("role", "text", "u.role", "their role"),
        Column("is_active", "boolean", "u.is_active", "whether they may sign in"),
        Column("created_at", "timestamp", "u.created_at", "when they were registered"),
        Column("last_login_at", "timestamp", "u.last_login_at", "when they last signed in"),
    ),
    filters=_FILTERS,
)

_OF_USER = "from audit_log l where l.entity = 'user' and l.entity_id = u.id::text"
_FAILURES = "('user.sign_in_failed', 'user.second_factor_failed')"
_ROLE_CHANGE = f"{_OF_USER} and l.before ->> 'role' <> l.after ->> 'role' order by l.id desc limit 1"
_ACTIVE_KEYS = f"from api_keys where api_keys.user_id = u.id and {ACTIVE}"

ACCESS_REVIEW = Dataset(
    name="access_review",
    description="One row a user: what they may do, how they prove who they are, and whether they still come.",
    role=Role.ADMIN,
    scope=Scope.USERS_READ,
    source="users u",
    key=("u.id",),
    sorts={"id": "u.id", "email": 'u.email collate "C"'},
    columns=(
        Column("id", "integer", "u.id", "the user's id"),
        Column("email", "text", "u.email", "their e-mail address"),
        Column("full_name", "text", "u.full_name", "their name"),
        Column("role", "text", "u.role", "their role"),
        Column("is_active", "boolean", "u.is_active", "whether they may sign in"),
        Column("created_at", "timestamp", "u.created_at", "when they were registered"),
        Column("role_changed_at", "timestamp", f"(select l.at {_ROLE_CHANGE})", "when their role was last changed"),
        Column(
            "role_changed_by", "integer", f"(select l.user_id {_ROLE_CHANGE})", "by which user; empty if by no user"
        ),
        Column("last_login_at", "timestamp", "u.last_login_at", "when they last signed in"),
        Column("open_sign_ins", "integer", "erp_open_sign_ins(u.id)", "how many of their sign-ins are open"),
        Column(
            "active_api_keys",
            "integer",
            f"(select count(*) {_ACTIVE_KEYS})",
            "how many API keys that act for them are neither revoked nor expired",
        ),
        Column(
            "failed_sign_ins_30_days",
            "integer",
            f"(select count(*) {_OF_USER} and l.action in {_FAILURES} and l.at > now() - interval '30 days')",
            "how many sign-ins have failed in the last 30 days, by password or second factor",
        ),
        Column("password_set_at", "timestamp", "u.password_set_at", "when their password was set; empty if unknown"),
        Column("must_change_password", "boolean", "u.must_change_password", "whether somebody else knows it"),
        Column("second_factor_since", "timestamp", "u.second_factor_since", "since when they have a second factor"),
    ),
    filters=(
        *_FILTERS,
        Filter("second_factor", a_flag, "(u.second_factor_since is not null) = {}", "with a second factor, or without"),
        Filter("no_login_since", a_time, "coalesce(u.last_login_at, u.created_at) < {}", "who last came before it"),
    ),
)

DATASETS = (USERS, ACCESS_REVIEW)
