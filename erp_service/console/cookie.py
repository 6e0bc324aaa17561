"""The cookie that keeps the refresh token where no script can read it."""

from erp_service.settings import Settings
from erp_service.web.pages.frame import base_of

_NAME = "erp_console"
PATH = "/console/session"


def name(settings: Settings) -> str:
    """Over TLS with the prefix that lets nobody set it over plain HTTP (RFC 6265bis, 4.1.3.1)."""
    return f"__Secure-{_NAME}" if _is_secure(settings) else _NAME


def written(settings: Settings, token: str) -> str:
    """The value of `Set-Cookie` that keeps the token as long as it is valid."""
    return f"{name(settings)}={token}; Max-Age={settings.refresh_token_seconds}{_attributes(settings)}"


def removed(settings: Settings) -> str:
    return f"{name(settings)}=; Max-Age=0{_attributes(settings)}"


def _attributes(settings: Settings) -> str:
    secure = "; Secure" if _is_secure(settings) else ""
    return f"; Path={base_of(settings.public_url)}{PATH}; HttpOnly; SameSite=Strict{secure}"


def _is_secure(settings: Settings) -> bool:
    return (settings.public_url or "").startswith("https:")
