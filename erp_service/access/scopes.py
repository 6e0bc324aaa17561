"""What an API key may be used for. Each route declares its scope beside its role: a key needs both."""

from enum import StrEnum


class Scope(StrEnum):
    """`write` does not include `read`: a key that only books deliveries need not see the stock."""

    ITEMS_READ = "items:read"
    ITEMS_WRITE = "items:write"
    LOCATIONS_READ = "locations:read"
    LOCATIONS_WRITE = "locations:write"
    STOCK_READ = "stock:read"
    STOCK_WRITE = "stock:write"
    REPORTS_READ = "reports:read"
    EXPORTS_READ = "exports:read"
    EXPORTS_WRITE = "exports:write"
    IMPORTS_READ = "imports:read"
    IMPORTS_WRITE = "imports:write"
    AUDIT_READ = "audit:read"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    SETTINGS_READ = "settings:read"
    SETTINGS_WRITE = "settings:write"
    OPERATIONS_READ = "operations:read"
    OPERATIONS_WRITE = "operations:write"


class Keys(StrEnum):
    """Of a route that has no scope of its own."""

    NONE = "no key"
    """For people in person alone: passwords, sign-ins, second factors, and keys themselves."""
    ANY = "any key"
    """For every key that is valid: what the answer holds depends on its scopes."""


KeyAccess = Scope | Keys
"""Which API keys may call a route."""
