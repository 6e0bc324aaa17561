"""The movements of the last days, for a chart."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Date, Select, Text, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB

from erp_service.db.base import among
from erp_service.inventory.models import StockEntry
from erp_service.reports.schemas import MovementsOfDay
from erp_service.timestamps import day_begins

DAYS = 7


def first_of_last_days(zone: ZoneInfo) -> date:
    return datetime.now(UTC).astimezone(zone).date() - timedelta(days=DAYS - 1)


def by_day(zone: ZoneInfo, first: date, locations: list[int] | None = None) -> Select[Any]:
    """One value, for `movements_of`: the movements of these days, in the time zone; over all locations, or of some."""
    e = StockEntry
    day = cast(func.timezone(zone.key, e.occurred_at), Date)

    def value_of(these: ColumnElement[bool]) -> ColumnElement[str]:
        # a text, since a number of JSON would go through a float
        return cast(func.trim_scale(func.abs(func.coalesce(func.sum(e.value).filter(these), 0))), Text)

    days = (
        select(func.jsonb_build_array(cast(day, Text), func.count(), value_of(e.value > 0), value_of(e.value < 0)))
        .where(e.occurred_at >= day_begins(first, zone))
        .where(e.occurred_at < day_begins(first + timedelta(days=DAYS), zone))
        .group_by(day)
    )
    if locations is not None:
        days = days.where(among(e.location_id, locations))
    of_day = days.subquery("of_day").c[0]
    return select(func.coalesce(func.jsonb_agg(of_day), cast("[]", JSONB)))


def movements_of(first: date, found: Sequence[tuple[str, int, str, str]]) -> list[MovementsOfDay]:
    """Of each of the days, also those without movements."""
    of_day = {
        day: MovementsOfDay(date.fromisoformat(day), entries, Decimal(value_in), Decimal(value_out))
        for day, entries, value_in, value_out in found
    }
    every = (first + timedelta(days=n) for n in range(DAYS))
    return [of_day.get(day.isoformat()) or MovementsOfDay(day, 0, Decimal(0), Decimal(0)) for day in every]
