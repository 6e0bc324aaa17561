"""Which backups stay."""

from collections.abc import Collection, Hashable
from datetime import UTC, datetime
from typing import NamedTuple


class Keep(NamedTuple):
    """How many days, weeks and months keep a backup, their newest. Only those count in which there is one, so that a
    pause in the backups makes none of the old ones go."""

    daily: int = 7
    weekly: int = 5
    monthly: int = 12

    @classmethod
    def read(cls, text: str) -> "Keep":
        """`7/5/12`; raises ValueError."""
        daily, weekly, monthly = (int(part) for part in text.split("/"))
        if min(daily, weekly, monthly) < 0:
            raise ValueError(text)
        return cls(daily, weekly, monthly)


def kept(times: Collection[datetime], keep: Keep) -> set[datetime]:
    """Of the times of whole backups, those that stay; the newest always does."""
    newest_first = sorted(times, reverse=True)
    stay = set(newest_first[:1])
    for most, name in ((keep.daily, _day), (keep.weekly, _week), (keep.monthly, _month)):
        seen: set[Hashable] = set()
        for at in newest_first:
            if len(seen) < most and name(at) not in seen:
                seen.add(name(at))
                stay.add(at)
    return stay


def _day(at: datetime) -> Hashable:
    return at.astimezone(UTC).date()


def _week(at: datetime) -> Hashable:
    return at.astimezone(UTC).isocalendar()[:2]


def _month(at: datetime) -> Hashable:
    return at.astimezone(UTC).strftime("%Y-%m")
