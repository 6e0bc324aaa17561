"""What the company's owner decides while the service runs, kept in the database."""

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import text

from erp_service.access.roles import Role
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.observability.telemetry import log

CompanyName = Annotated[str, Meta(description="what the company is called", examples=["Harbour Lane Coffee"])]
Currency = Annotated[
    str,
    Meta(
        pattern="^[A-Z]{3}$",
        description="ISO 4217: what all values are in; cannot be changed once the ledger has an entry",
        examples=["EUR"],
    ),
]
LowStockThreshold = Annotated[
    Decimal,
    Meta(
        description="the reorder point of active items that have none of their own, in their own units; null: those are"
        " never low"
    ),
]
ExportRetentionHours = Annotated[
    int, Meta(ge=1, le=8760, description="for how many hours the file of a new export is kept, and the most for one")
]
AuditRetentionDays = Annotated[
    int,
    Meta(ge=30, le=36_600, description="for how many days entries of the audit log are kept; null: for ever"),
]
ExportsRunning = Annotated[int, Meta(ge=1, le=100, description="how many exports of one user run at once")]
ExportsWaiting = Annotated[int, Meta(ge=1, le=10_000, description="how many exports of one user may wait")]
ExportBytes = Annotated[
    int,
    Meta(
        ge=1,
        le=2**53 - 1,
        description="how many bytes of export files one user may keep; a running export that passes it fails",
    ),
]
ExportSubmissions = Annotated[
    int,
    Meta(
        ge=1,
        le=1_000_000,
        description="how many exports one user may submit, and schedules they may change, in an hour",
    ),
]
ExportEstimates = Annotated[
    int, Meta(ge=1, le=1_000_000, description="how many estimates one user may ask for in a minute")
]
ExportDownloads = Annotated[
    int,
    Meta(
        ge=1,
        le=1_000_000,
        description="how many requests for export files, or ranges of them, one user may make in a minute",
    ),
]
SignedAddresses = Annotated[
    int, Meta(ge=1, le=1_000_000, description="how many addresses without a token one user may ask for in a minute")
]
ImportsRunning = Annotated[int, Meta(ge=1, le=100, description="how many imports of one user run at once")]
ImportsWaiting = Annotated[int, Meta(ge=1, le=10_000, description="how many imports of one user may wait")]
ImportBytes = Annotated[
    int,
    Meta(
        ge=1024,
        le=2**53 - 1,
        description="how many bytes of imported files and reports of bad lines one user may keep",
    ),
]
ImportSubmissions = Annotated[
    int, Meta(ge=1, le=1_000_000, description="how many imports one user may submit in an hour")
]
UserRequests = Annotated[
    int, Meta(ge=60, le=10_000_000, description="how many requests one user may make in a minute; null: any number")
]
KeyRequests = Annotated[
    int, Meta(ge=60, le=10_000_000, description="how many requests one API key may make in a minute; null: any number")
]
SecondFactorFrom = Annotated[
    Role, Meta(description="the least role whose users must have a second factor; null: nobody must")
]


class CompanySettings(msgspec.Struct, frozen=True, kw_only=True):
    """One field for each setting, with its default. Only what was set is stored."""

    company_name: CompanyName | None = None
    currency: Currency = "EUR"
    low_stock_threshold: LowStockThreshold | None = None
    export_retention_hours: ExportRetentionHours = 72
    audit_retention_days: AuditRetentionDays | None = None
    exports_running_per_user: ExportsRunning = 2
    exports_waiting_per_user: ExportsWaiting = 20
    export_bytes_per_user: ExportBytes = 5 * 1024**3
    export_submissions_per_hour: ExportSubmissions = 600
    export_estimates_per_minute: ExportEstimates = 30
    export_downloads_per_minute: ExportDownloads = 300
    signed_addresses_per_minute: SignedAddresses = 60
    imports_running_per_user: ImportsRunning = 1
    imports_waiting_per_user: ImportsWaiting = 20
    import_bytes_per_user: ImportBytes = 5 * 1024**3
    import_submissions_per_hour: ImportSubmissions = 120
    requests_per_minute_per_user: UserRequests | None = 6000
    requests_per_minute_per_key: KeyRequests | None = 6000
    second_factor_from: SecondFactorFrom | None = None


_SETTINGS = Prepared(text("select settings::text from company"))


async def company_settings(db: Session) -> CompanySettings:
    """As they are at this moment."""
    return read_stored(await db.scalar(_SETTINGS))


# whoever cannot read who must have a second factor asks everybody for one
_UNREADABLE = {**msgspec.structs.asdict(CompanySettings()), "second_factor_from": Role.VIEWER}


def read_stored(text: str) -> CompanySettings:
    """What the column `settings` holds. A value that another version, with other bounds, has stored counts as the
    default, and is logged: a roll back must not stop every request."""
    try:
        return msgspec.json.decode(text, type=CompanySettings)
    except msgspec.ValidationError:
        values = msgspec.json.decode(text, type=dict[str, object])
    readable = {}
    for field in msgspec.structs.fields(CompanySettings):
        if field.name in values:
            try:
                readable[field.name] = msgspec.convert(values[field.name], field.type)
            except msgspec.ValidationError as exc:
                log.error("a stored setting cannot be read", setting=field.name, fault=str(exc))
                readable[field.name] = _UNREADABLE[field.name]
    return CompanySettings(**readable)
