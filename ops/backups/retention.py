"""Which backups stay."""

from collections.abc import Collection, Hashable
from datetime import UTC, datetime
from typing import NamedTuple


class Retention(NamedTuple):
    """For how many days, weeks and months the newest backup of each stays. Only periods with a backup count, so a pause
    in the backups removes none of the old ones."""

    daily: int = 7
    weekly: int = 5
    monthly: int = 12

    @classmethod
    def parse(cls, text: str) -> "Retention":
        """Reads `7/5/12`; raises ValueError."""
        daily, weekly, monthly = (int(part) for part in text.split("/"))
        if min(daily, weekly, monthly) < 0:
            raise ValueError(text)
        return cls(daily, weekly, monthly)


def retained(times: Collection[datetime], retention: Retention) -> set[datetime]:
    """Those of the backups' times that stay; the newest always does."""
    newest_first = sorted(times, reverse=True)
    stay = set(newest_first[:1])
    for most, period_of in ((retention.daily, _day), (retention.weekly, _week), (retention.monthly, _month)):
        seen: set[Hashable] = set()
        for at in newest_first:
            if len(seen) < most and period_of(at) not in seen:
                seen.add(period_of(at))
                stay.add(at)
    return stay


def _day(at: datetime) -> Hashable:
    return at.astimezone(UTC).date()


def _week(at: datetime) -> Hashable:
    return at.astimezone(UTC).isocalendar()[:2]


def _month(at: datetime) -> Hashable:
    return at.astimezone(UTC).strftime("%Y-%m")
