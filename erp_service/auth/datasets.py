"""The dataset of users, for exports."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.datasets import Column, Dataset, Filter, a_flag, one_of, search_filter

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
    filters=(
        search_filter("erp_fold(u.email || E'\\n' || u.full_name)", "email", "full_name"),
        Filter("role", one_of(*Role), "u.role = {}", "this role"),
        Filter("is_active", a_flag, "u.is_active = {}", "active or not"),
    ),
)

DATASETS = (USERS,)
