"""The movements of the last days, for a chart."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Date, cast, func, select

from erp_service.db.base import among
from erp_service.db.sessions import Session
from erp_service.inventory.models import StockEntry
from erp_service.reports.schemas import MovementsOfDay
from erp_service.timestamps import day_begins

DAYS = 7


async def last_days(db: Session, zone: ZoneInfo, locations: list[int] | None = None) -> list[MovementsOfDay]:
    """Of today and the days before it, in the time zone; over all locations, or of some."""
    e = StockEntry
    today = datetime.now(UTC).astimezone(zone).date()
    first = today - timedelta(days=DAYS - 1)
    day = cast(func.timezone(zone.key, e.occurred_at), Date)

    def value_of(these: ColumnElement[bool]) -> ColumnElement[Decimal]:
        return func.trim_scale(func.abs(func.coalesce(func.sum(e.value).filter(these), 0)))

    statement = (
        select(day.label("day"), func.count(), value_of(e.value > 0), value_of(e.value < 0))
        .where(e.occurred_at >= day_begins(first, zone), e.occurred_at < day_begins(today + timedelta(days=1), zone))
        .group_by(day)
    )
    if locations is not None:
        statement = statement.where(among(e.location_id, locations))
    found: dict[date, MovementsOfDay] = {row[0]: MovementsOfDay(*row) for row in await db.execute(statement)}
    every = (first + timedelta(days=n) for n in range(DAYS))
    return [found.get(each) or MovementsOfDay(each, 0, Decimal(0), Decimal(0)) for each in every]
