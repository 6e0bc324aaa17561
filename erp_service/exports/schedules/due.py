"""Submits the exports of schedules that are due: each run exactly once, by whichever worker is first. If no worker was
running at its time, a run is submitted late, once.

Every worker looks for due schedules (queue/background.py). One transaction finds the run and records it, by the clock
of the database."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from asyncpg import PostgresError
from sqlalchemy import func, or_, select, update

from erp_service import errors
from erp_service.audit.record import record
from erp_service.company.settings import company_settings
from erp_service.db.outages import is_unavailable
from erp_service.db.sessions import WriteSession
from erp_service.errors import Refused
from erp_service.exports.context import ExportContext
from erp_service.exports.jobs.states import WORKER
from erp_service.exports.planning.relative import Moment
from erp_service.exports.problems import ExportFailed, TooManyExports, stored_problem
from erp_service.exports.queries import VersionedExport
from erp_service.exports.schedules import cron, owners, service
from erp_service.exports.schedules.models import ExportSchedule
from erp_service.observability.telemetry import log
from erp_service.registry.background import BackgroundStep
from erp_service.registry.services import ServiceSet
from erp_service.timestamps import stored_zone

RETRY_AFTER = timedelta(seconds=10)
GIVE_UP_AFTER = timedelta(minutes=10)
"""How long a run is retried for which the owner's waiting exports leave no room."""


class DueSchedule(msgspec.Struct, frozen=True):
    """A schedule whose run is due, and the time by the clock of the database."""

    id: UUID
    user_id: int
    cron: str
    timezone: str
    spec: dict[str, Any]
    next_run_at: datetime
    last_error: dict[str, Any] | None
    now: datetime
    changed_by: int | None
    most_role: str | None


_S = ExportSchedule
_DUE = (
    select(
        _S.id,
        _S.user_id,
        _S.cron,
        _S.timezone,
        _S.spec,
        _S.next_run_at,
        _S.last_error,
        func.now().label("now"),
        _S.changed_by,
        _S.most_role,
    )
    .where(_S.is_active, _S.next_run_at <= func.now(), or_(_S.again_at.is_(None), _S.again_at <= func.now()))
    .order_by(_S.next_run_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)


async def run_due(exports: ExportContext) -> None:
    """Run all schedules that are due by now."""
    while await run_next(exports):
        pass


async def run_next(exports: ExportContext) -> bool:
    """Run the schedule that has been due the longest and that no other worker is running; False if there is none."""
    async with exports.database.write() as db:
        row = (await db.execute(_DUE)).one_or_none()
        if row is None:
            return False
        due = DueSchedule(*row)
        try:
            async with db.savepoint():
                await _run(db, due)
        except (Refused, PostgresError) as exc:
            if is_unavailable(exc):
                raise
            await _refuse(db, due, exc)
        return True


async def _run(db: WriteSession, due: DueSchedule) -> VersionedExport:
    # computed from now and not from the due time: several missed runs are made good by one
    next_run_at = service.timing(due.cron, due.timezone, due.now, read_zone=stored_zone)
    zone = stored_zone(due.timezone)
    # of a run that is late, as of the time when it was due: a report of the day at 23:55 stays one of that day
    due_at = cron.latest_run(cron.read(cron.expanded(due.cron)), zone, due.next_run_at, due.now)
    owner = await owners.principal_at_its_time(
        db, due.id, due.user_id, changed_by=due.changed_by, most_role=due.most_role
    )
    export = await service.submit_export(db, owner, await company_settings(db), due.spec, Moment(due_at, zone))
    await service.record_run(db, due.id, export_id=export.job.id, next_run_at=next_run_at, again_at=None)
    after = {"export_id": str(export.job.id), "due_at": due_at.isoformat()}
    await record(db, owner, "schedule.run", due.id, after=after)
    log.info("schedule ran", schedule_id=str(due.id), export_id=str(export.job.id))
    return export


async def _refuse(db: WriteSession, due: DueSchedule, exc: Exception) -> None:
    if isinstance(exc, TooManyExports) and due.now - due.next_run_at < GIVE_UP_AFTER:
        await db.execute(update(_S).where(_S.id == due.id).values(again_at=due.now + RETRY_AFTER))
        return
    if not isinstance(exc, Refused):
        log.error("schedule cannot be run", schedule_id=str(due.id), exc_info=exc)
    why = exc if isinstance(exc, Refused) else ExportFailed()
    problem = stored_problem(why)
    await service.record_run(db, due.id, last_error=problem, again_at=None, **_next_run(due))
    if due.last_error is None or due.last_error["type"] != problem["type"]:
        # only the first of several equal ones: a record of each run of a forgotten schedule would bury all others
        after = {"type": problem["type"], "owner": due.user_id, "changed_by": due.changed_by or due.user_id}
        await record(db, WORKER, "schedule.refused", due.id, after=after, on_behalf_of=due.user_id)


def _next_run(due: DueSchedule) -> dict[str, object]:
    try:
        return {"next_run_at": service.timing(due.cron, due.timezone, due.now, read_zone=stored_zone)}
    except errors.Invalid:
        # the time zone no longer exists, or the rules are stricter now: the schedule stays, inactive, with the error
        return {"next_run_at": None, "is_active": False}


async def _run_due(services: ServiceSet) -> None:
    await run_due(services.find(ExportContext))


BACKGROUND = (BackgroundStep("run the schedules that are due", _run_due),)
