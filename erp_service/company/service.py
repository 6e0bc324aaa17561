"""Changing the company's settings, which includes closing periods and opening them again."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from types import NoneType
from typing import Any, get_args

import msgspec
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.company.currencies import CURRENCIES
from erp_service.company.problems import CurrencyInUse
from erp_service.company.queries import settings_out
from erp_service.company.schemas import READ_ONLY, SettingsChange, SettingsOut
from erp_service.company.settings import CompanySettings
from erp_service.db import locks
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, text_array
from erp_service.decimals import Number, trimmed
from erp_service.errors import Fault
from erp_service.timestamps import day_begins, parse_zone, postgres_zone

FOR_SUPER_ADMIN = frozenset({"second_factor_from", "audit_retention_days"})
_DEFAULTS: Mapping[str, Any] = {**msgspec.structs.asdict(CompanySettings()), "timezone": "UTC", "closed_through": None}
_NULLABLE = {field.name for field in msgspec.structs.fields(CompanySettings) if NoneType in get_args(field.type)}
_NULLABLE.add("closed_through")

Values = dict[str, Any]
"""New values, by the names of the settings."""


async def change(
    db: WriteSession, who: Principal, before: SettingsOut, wanted: SettingsChange, reason: str | None = None
) -> SettingsOut:
    """Set what differs from `before`, which this transaction has locked. A change that changes nothing leaves no trace.

    Raises errors.Invalid, which names every fault; errors.Forbidden for what needs the role SUPER_ADMIN;
    CurrencyInUse."""
    faults = [*_read_only_faults(before, wanted)]
    values = await _differences(db, before, wanted, faults)
    if faults:
        raise errors.Invalid(None, *faults)
    if not values:
        return before
    for name in sorted(FOR_SUPER_ADMIN & values.keys()):
        if not who.role.includes(Role.SUPER_ADMIN):
            raise errors.Forbidden(f"Changing {name} needs the role SUPER_ADMIN.")
    opens = _require_period(who, before, values, reason)
    if values.keys() & {"closed_through", "timezone", "currency"}:
        # Waits for the postings in flight, and those that come meanwhile wait for this one: a trigger of the ledger
        # takes the same lock. It reads the company's row without a lock, so the order of the two does not matter to it.
        await locks.take(db, locks.CLOSED_PERIOD)
    if "currency" in values and await db.scalar(_HAS_ENTRIES):
        raise CurrencyInUse
    await write(db, before, values)
    await _record(db, who, before, values, opens=opens, reason=reason)
    return await settings_out(db)


def _read_only_faults(before: SettingsOut, wanted: SettingsChange) -> Iterator[Fault]:
    for name in READ_ONLY:
        if getattr(wanted, name) not in (msgspec.UNSET, getattr(before, name)):
            yield Fault("is read-only: leave it out, or as it was read", pointer=f"/{name}")


async def _differences(db: WriteSession, before: SettingsOut, wanted: SettingsChange, faults: list[Fault]) -> Values:
    values: Values = {}
    for name, default in _DEFAULTS.items():
        value = getattr(wanted, name)
        if value is None and name not in _NULLABLE:
            value = default
        if isinstance(value, Number):
            value = trimmed(value)
        if name == "timezone" and value is not msgspec.UNSET:
            value = await _zone(db, before.timezone, value, faults)
        if value is not msgspec.UNSET and value != getattr(before, name):
            values[name] = value
    if "currency" in values and values["currency"] not in CURRENCIES:
        faults.append(Fault("is not an ISO 4217 code of a currency that is in use", pointer="/currency"))
    return values


# Postgres has time zones of its own, and the ledger's trigger needs this one
_KNOWS_ZONE = Prepared(text("select exists (select from pg_timezone_names where name = cast(:name as text))"))
_HAS_ENTRIES = Prepared(text("select exists (select from stock_ledger)"))


async def _zone(db: WriteSession, present: str, name: str, faults: list[Fault]) -> str:
    """The name under which Python and Postgres find the same zone."""
    try:
        zone = postgres_zone(parse_zone(name).key)
        if zone != present and not await db.scalar(_KNOWS_ZONE, {"name": zone}):
            raise ValueError("is not the name of an IANA time zone that the database knows")
    except ValueError as exc:
        faults.append(Fault(str(exc), pointer="/timezone"))
        return present
    return zone


def _require_period(who: Principal, before: SettingsOut, values: Values, reason: str | None) -> bool:
    """Whether the change opens a closed period, or, with another time zone, a part of it.

    Raises errors.Invalid, errors.Forbidden."""
    zone, day = values.get("timezone", before.timezone), values.get("closed_through", before.closed_through)
    if (zone, day) == (before.timezone, before.closed_through):
        return False
    if day is not None and day >= datetime.now(parse_zone(zone)).date():
        name = "closed_through" if "closed_through" in values else "timezone"
        detail = "must be a day that has ended" if name == "closed_through" else "would close a day that has not ended"
        raise errors.Invalid(None, Fault(detail, pointer=f"/{name}"))
    first_open, was = _first_open(zone, day), _first_open(before.timezone, before.closed_through)
    opens = was is not None and (first_open is None or first_open < was)
    if opens and not who.role.includes(Role.SUPER_ADMIN):
        raise errors.Forbidden("Opening a closed period needs the role SUPER_ADMIN.")
    if opens and not (reason or "").strip():
        raise errors.Invalid(None, Fault("is missing: say why the period is opened again", pointer="/reason"))
    return opens


def _first_open(zone: str, day: date | None) -> datetime | None:
    return None if day is None else day_begins(day + timedelta(days=1), parse_zone(zone))


_WRITE = Prepared(
    text("""
    update company set
      settings = (settings - cast(cast(:reset as text) as text[])) || cast(cast(:stored as text) as jsonb),
      timezone = cast(:timezone as text),
      closed_through = cast(:day as date),
      closed_at = case
        when closed_through is not distinct from cast(:day as date) then closed_at
        when cast(:day as date) is not null then clock_timestamp() end,
      version = version + 1, updated_at = now()
""")
)


async def write(db: WriteSession, before: SettingsOut, values: Values) -> None:
    """Store what a setting was found to be, with no check and no audit entry."""
    stored, reset = {}, []
    for name in CompanySettings.__struct_fields__:
        if name in values and values[name] == _DEFAULTS[name]:
            reset.append(name)
        elif name in values:
            stored[name] = values[name]
    parameters = {
        "reset": text_array(reset),
        "stored": msgspec.json.encode(stored).decode(),
        "timezone": values.get("timezone", before.timezone),
        "day": values.get("closed_through", before.closed_through),
    }
    await db.execute(_WRITE, parameters)


async def _record(
    db: WriteSession, who: Principal, before: SettingsOut, values: Values, *, opens: bool, reason: str | None
) -> None:
    """Periods have actions of their own, which an auditor looks for."""
    if "closed_through" in values:
        await record(
            db,
            who,
            "company.period_opened" if opens else "company.period_closed",
            1,
            before={"closed_through": before.closed_through},
            after={"closed_through": values["closed_through"]},
            reason=reason,
        )
    new = {name: value for name, value in values.items() if name != "closed_through"}
    if new:
        old = {name: getattr(before, name) for name in new}
        await record(db, who, "company.settings_changed", 1, before=old, after=new, reason=reason)
