"""What auth gives to the service."""

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.registry.feature import EventTypes, Feature

FEATURE = Feature(
    name="auth",
    models=("erp_service.auth.models", "erp_service.auth.api_keys.models", "erp_service.auth.second_factor.models"),
    tags=(
        ("auth", "Sign in and out"),
        ("users", "Who may sign in, and with which role"),
        ("api-keys", "Keys for programs, each with a role and scopes"),
    ),
    routes=(
        "erp_service.auth.routes.login:ROUTES",
        "erp_service.auth.routes.sign_ins:ROUTES",
        "erp_service.auth.routes.second_factor:ROUTES",
        "erp_service.auth.routes.users:ROUTES",
        "erp_service.auth.api_keys.routes:ROUTES",
    ),
    housekeeping=("erp_service.auth.models:HOUSEKEEPING", "erp_service.auth.login.networks:HOUSEKEEPING"),
    datasets=("erp_service.auth.datasets:DATASETS",),
    event_types=(
        EventTypes(
            Role.ADMIN,
            Scope.USERS_READ,
            (
                "api_key.created",
                "api_key.revoked",
                "user.created",
                "user.deactivated",
                "user.password_change_failed",
                "user.password_changed",
                "user.password_reset",
                "user.reactivated",
                "user.recovery_code_used",
                "user.recovery_codes_renewed",
                "user.refresh_token_reused",
                "user.role_changed",
                "user.second_factor_added",
                "user.second_factor_failed",
                "user.second_factor_removed",
                "user.second_factor_requested",
                "user.second_factor_reset",
                "user.sign_in_failed",
                "user.signed_in",
                "user.signed_out",
                "user.signed_out_by_another",
                "user.updated",
            ),
        ),
    ),
)
