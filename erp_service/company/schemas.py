"""What clients send and get about the company's settings."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from erp_service.access.roles import Role
from erp_service.company.settings import (
    AuditRetentionDays,
    CompanyName,
    CompanySettings,
    Currency,
    ExportBytes,
    ExportDownloads,
    ExportEstimates,
    ExportRetentionHours,
    ExportsRunning,
    ExportSubmissions,
    ExportsWaiting,
    ImportBytes,
    ImportsRunning,
    ImportSubmissions,
    ImportsWaiting,
    KeyRequests,
    LowStockThreshold,
    SecondFactorFrom,
    SignedAddresses,
    UserRequests,
)
from erp_service.decimals import Level
from erp_service.texts import Label


class CompanyNameText(Label):
    longest = 200


class ReasonText(Label):
    longest = 500


Timezone = Annotated[
    str,
    Meta(
        max_length=100,
        description="the IANA time zone in which the company's days begin and end",
        examples=["Europe/Berlin"],
    ),
]
ClosedThrough = Annotated[
    date,
    Meta(description="the last day of the closed period, to whose days nothing is posted; null: none is closed"),
]
ClosedAt = Annotated[datetime, Meta(description="when it was closed; read-only")]
Version = Annotated[int, Meta(description="the number in the `ETag`; read-only")]
UpdatedAt = Annotated[datetime, Meta(description="when something was last changed; read-only")]


class SettingsOut(CompanySettings, frozen=True, kw_only=True):
    """What is in force."""

    timezone: Timezone
    closed_through: ClosedThrough | None
    closed_at: ClosedAt | None
    version: Version
    updated_at: UpdatedAt


class SettingsChange(Struct, forbid_unknown_fields=True, kw_only=True):
    """A merge patch (RFC 7396): what is left out stays as it is, and null gives a setting its default, or its own
    meaning of null. What GET has answered is taken back; its read-only members must be unchanged."""

    company_name: Annotated[CompanyNameText, *CompanyName.__metadata__] | UnsetType | None = UNSET
    currency: Currency | UnsetType | None = UNSET
    timezone: Timezone | UnsetType | None = UNSET
    closed_through: ClosedThrough | UnsetType | None = UNSET
    low_stock_threshold: Annotated[Level, *LowStockThreshold.__metadata__] | UnsetType | None = UNSET
    export_retention_hours: ExportRetentionHours | UnsetType | None = UNSET
    audit_retention_days: AuditRetentionDays | UnsetType | None = UNSET
    exports_running_per_user: ExportsRunning | UnsetType | None = UNSET
    exports_waiting_per_user: ExportsWaiting | UnsetType | None = UNSET
    export_bytes_per_user: ExportBytes | UnsetType | None = UNSET
    export_submissions_per_hour: ExportSubmissions | UnsetType | None = UNSET
    export_estimates_per_minute: ExportEstimates | UnsetType | None = UNSET
    export_downloads_per_minute: ExportDownloads | UnsetType | None = UNSET
    signed_addresses_per_minute: SignedAddresses | UnsetType | None = UNSET
    imports_running_per_user: ImportsRunning | UnsetType | None = UNSET
    imports_waiting_per_user: ImportsWaiting | UnsetType | None = UNSET
    import_bytes_per_user: ImportBytes | UnsetType | None = UNSET
    import_submissions_per_hour: ImportSubmissions | UnsetType | None = UNSET
    requests_per_minute_per_user: UserRequests | UnsetType | None = UNSET
    requests_per_minute_per_key: KeyRequests | UnsetType | None = UNSET
    second_factor_from: SecondFactorFrom | UnsetType | None = UNSET
    reason: Annotated[
        ReasonText | UnsetType,
        Meta(description="why, for the audit log; needed to open a closed period", examples=["an invoice came late"]),
    ] = UNSET
    closed_at: ClosedAt | UnsetType | None = UNSET
    version: Version | UnsetType = UNSET
    updated_at: UpdatedAt | UnsetType = UNSET


READ_ONLY = ("closed_at", "version", "updated_at")


class SettingKind(StrEnum):
    """How a value is written."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    DATE = "date"
    CHOICE = "choice"


class SettingOut(Struct, frozen=True, kw_only=True):
    """What one setting is, whatever it is set to."""

    name: Annotated[str, Meta(description="its name", examples=["low_stock_threshold"])]
    meaning: Annotated[str, Meta(description="what it is for")]
    kind: Annotated[SettingKind, Meta(description="how its value is written")]
    choices: Annotated[list[str] | None, Meta(description="the only values of a `choice`; null: no list")]
    least: Annotated[int | None, Meta(description="the smallest number; null: no such limit")]
    most: Annotated[int | None, Meta(description="the largest number; null: no such limit")]
    nullable: Annotated[bool, Meta(description="true: null is a value of its own; false: null gives it the default")]
    default: Annotated[str | None, Meta(description="its value until somebody sets one, written as text")]
    role: Annotated[Role, Meta(description="the least role that may change it")]


class SettingList(Struct, frozen=True):
    """All settings."""

    items: Annotated[list[SettingOut], Meta(description="the settings")]
