"""Closing periods, and opening them again."""

from datetime import date, datetime

from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.company.queries import company_zone
from erp_service.db import locks
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault


async def close_through(db: WriteSession, who: Principal, day: date | None, reason: str | None = None) -> None:
    """From now on nothing is posted to the days up to `day`; None opens all of them.

    Waits for the postings in flight, and those that come meanwhile wait for this one (a trigger of the ledger takes the
    same lock). Raises errors.Invalid for a day that has not ended; errors.Forbidden and errors.Invalid if a period is
    opened again without the role SUPER_ADMIN, or without a reason."""
    await locks.take(db, locks.CLOSED_PERIOD)
    before: date | None = await db.scalar(text("select closed_through from company for update"))
    if day is not None and day >= datetime.now(await company_zone(db)).date():
        raise errors.Invalid(None, Fault("must be a day that has ended", pointer="/closed_through"))
    if day == before:
        return
    opens = before is not None and (day is None or day < before)
    if opens and not who.role.includes(Role.SUPER_ADMIN):
        raise errors.Forbidden("Opening a closed period needs the role SUPER_ADMIN.")
    if opens and not (reason or "").strip():
        raise errors.Invalid(None, Fault("is missing: say why the period is opened again", pointer="/reason"))
    await db.execute(
        text("""
            update company set closed_through = cast(:day as date), version = version + 1, updated_at = now(),
              closed_at = case when cast(:day as date) is not null then clock_timestamp() end
        """),
        {"day": day},
    )
    await record(
        db,
        who,
        "company.period_opened" if opens else "company.period_closed",
        1,
        before={"closed_through": before},
        after={"closed_through": day},
        reason=reason,
    )
