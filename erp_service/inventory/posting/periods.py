"""Closed periods: a trigger of the ledger refuses what is dated to one; here a request is told which line it is."""

from collections.abc import Iterable
from datetime import datetime

from erp_service.company.queries import first_open_moment
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault
from erp_service.inventory.problems import PeriodClosed
from erp_service.timestamps import text_of
from erp_service.validation import MOST_FAULTS

PERIOD_OPEN = "stock_ledger_period_open"
"""The constraint that the trigger names; its detail is the first moment that is open."""


async def refuse_closed(db: WriteSession, times: Iterable[tuple[datetime | None, str]]) -> None:
    """`times` are those that a body states, with their pointers. What happens now is in no closed period, so nothing is
    asked for it. Raises PeriodClosed."""
    stated = [(time, pointer) for time, pointer in times if time is not None]
    if not stated or (first_open := await first_open_moment(db)) is None:
        return
    detail = f"is before {text_of(first_open)}, and what was before is closed"
    if faults := [Fault(detail, pointer) for time, pointer in stated if time < first_open]:
        raise period_closed(first_open, *faults[:MOST_FAULTS])


def period_closed(first_open: datetime, *faults: Fault) -> PeriodClosed:
    return PeriodClosed(f"Everything before {text_of(first_open)} is closed.", *faults, first_open=text_of(first_open))
