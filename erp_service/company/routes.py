"""/api/v1/settings: what the company's owner decides while the service runs."""

from litestar.di import NamedDependency
from litestar.params import JSONBody

from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.company import catalogue, service
from erp_service.company.problems import CurrencyInUse
from erp_service.company.queries import lock_for_update, settings_out
from erp_service.company.schemas import SettingList, SettingsChange, SettingsOut
from erp_service.db.sessions import ReadSession, WriteSession
from erp_service.web.responses import ApiResponse, require_match, tagged
from erp_service.web.routing import IfMatch, get, patch

_PATH = "/api/v1/settings"
_TAGS = ["settings"]


@get(_PATH, role=Role.ADMIN, scope=Scope.SETTINGS_READ, summary="The settings", tags=_TAGS)
async def get_settings(read: NamedDependency[ReadSession]) -> ApiResponse[SettingsOut]:
    """What is in force, with its `ETag`. A setting that nobody has set has its default.

    How the service itself runs, such as its addresses, connections and processes, is set in the environment of each
    process: `erp settings` lists it."""
    settings = await settings_out(read)
    return tagged(settings, settings.version)


@get(
    f"{_PATH}/catalogue",
    role=Role.ADMIN,
    scope=Scope.SETTINGS_READ,
    summary="What can be set",
    tags=_TAGS,
    operation_id="list_settings",
)
async def list_settings() -> ApiResponse[SettingList]:
    """Each setting with its meaning, its default and its limits, and the role that may change it: enough to draw a
    form."""
    return ApiResponse(SettingList([*catalogue.settings()]))


@patch(
    _PATH,
    role=Role.ADMIN,
    scope=Scope.SETTINGS_WRITE,
    summary="Change settings",
    tags=_TAGS,
    problems=[CurrencyInUse],
    example={"company_name": "Harbour Lane Coffee", "timezone": "Europe/London", "low_stock_threshold": "5"},
)
async def change_settings(
    write: NamedDependency[WriteSession],
    who: NamedDependency[Principal],
    data: JSONBody[SettingsChange],
    if_match: IfMatch = None,
) -> ApiResponse[SettingsOut]:
    """In force on every instance within a second. A merge patch (RFC 7396): null gives a setting its default, or
    switches off what null means nothing for. If nothing changes, the `ETag` stays the same.

    `closed_through` closes the days up to it: nothing is posted to them any more. Closing waits for the postings in
    progress. Opening them again, also by a time zone in which a part of them is open, needs the role SUPER_ADMIN and a
    `reason`; `second_factor_from` and `audit_retention_days` need that role. `currency` can be changed until the ledger
    has its first entry."""
    before = await lock_for_update(write)
    require_match(if_match, before.version)
    settings = await service.change(write, who, before, data, data.reason or None)
    return tagged(settings, settings.version)


ROUTES = [get_settings, list_settings, change_settings]
