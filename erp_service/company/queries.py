"""Reads of the company's settings."""

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import text

from erp_service.company.schemas import SettingsOut
from erp_service.company.settings import read_stored
from erp_service.db.sessions import Row, Session, WriteSession
from erp_service.db.statements import Prepared
from erp_service.timestamps import UTC_ZONE, TimeParameter, is_date, parse_times, parse_zone

_FIRST_OPEN = Prepared(text("select (closed_through + 1)::timestamp at time zone timezone from company"))
_ZONE = Prepared(text("select timezone from company"))

_PRESENT = "select settings::text, timezone, closed_through, closed_at, version, updated_at from company"
_SETTINGS = Prepared(text(_PRESENT))
_LOCKED = Prepared(text(f"{_PRESENT} for update"))


async def settings_out(db: Session) -> SettingsOut:
    """All that the owner decides, as it is at this moment."""
    return _out((await db.execute(_SETTINGS)).one())


async def lock_for_update(db: WriteSession) -> SettingsOut:
    """The same; nobody else changes it before the transaction ends."""
    return _out((await db.execute(_LOCKED)).one())


def _out(row: Row) -> SettingsOut:
    columns = dict(row.items())
    stored = read_stored(columns.pop("settings"))
    return SettingsOut(**msgspec.structs.asdict(stored), **columns)


async def first_open_moment(db: Session) -> datetime | None:
    """The moment from which stock may be posted; None if no period is closed."""
    moment: datetime | None = await db.scalar(_FIRST_OPEN)
    return moment


async def company_zone(db: Session) -> ZoneInfo:
    """The time zone in which the company's days begin and end."""
    return parse_zone(str(await db.scalar(_ZONE)))


async def read_times(
    db: Session, *parameters: TimeParameter | tuple[str, str | None], zone: ZoneInfo | None = None
) -> list[datetime | None]:
    """Named query parameters as moments in UTC. Dates are days in `zone`, by default in the company's, which is read
    only if there are dates.

    Raises errors.Invalid that names every parameter that is no time."""
    if zone is None:
        zone = await company_zone(db) if any(is_date(text) for _, text, *_ in parameters) else UTC_ZONE
    return parse_times(*parameters, zone=zone)
