"""Schedules that are due become exports: exactly once, whichever worker looks first, and late once if none was up.

Every worker looks (queue/background.py). Which runs are due, and that a run has been, is said by one transaction in the
database, by its clock."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Row, func, or_, select, update
from sqlalchemy.exc import DBAPIError

from erp_service import errors, problems
from erp_service.audit.record import record
from erp_service.db.outages import is_unavailable
from erp_service.db.sessions import WriteSession
from erp_service.errors import Refused
from erp_service.exports.context import ExportContext
from erp_service.exports.lifecycle import WORKER
from erp_service.exports.problems import ExportFailed, TooManyExports
from erp_service.exports.queries import VersionedExport
from erp_service.exports.schedules import service
from erp_service.exports.schedules.models import ExportSchedule
from erp_service.observability.telemetry import log
from erp_service.registry.background import BackgroundStep
from erp_service.registry.services import ServiceSet
from erp_service.settings import Settings

AGAIN = timedelta(seconds=10)
PATIENCE = timedelta(minutes=10)
"""So long a run is tried again that the owner's waiting exports leave no room for; then it is given up."""

_S = ExportSchedule
_DUE = (
    select(_S.id, _S.user_id, _S.cron, _S.timezone, _S.spec, _S.next_run_at, _S.last_error, func.now().label("now"))
    .where(_S.is_active, _S.next_run_at <= func.now(), or_(_S.again_at.is_(None), _S.again_at <= func.now()))
    .order_by(_S.next_run_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)


async def run_due(resources: ExportContext) -> None:
    """Run all that are due by now."""
    while await run_next(resources):
        pass


async def run_next(resources: ExportContext) -> bool:
    """Run the one that has been due the longest and that nobody else is running; False if there is none."""
    async with resources.database.write() as db:
        due = (await db.execute(_DUE)).one_or_none()
        if due is None:
            return False
        try:
            async with db.begin_nested():
                await _run(db, resources.settings, due)
        except (Refused, DBAPIError) as exc:
            if is_unavailable(exc):
                raise
            await _refuse(db, due, exc)
        return True


async def _run(db: WriteSession, settings: Settings, due: Row[Any]) -> VersionedExport:
    # reckoned from now and not from what was due: a run that was missed is made good once
    next_run_at = service.timing(due.cron, due.timezone, due.now)
    owner = await service.owner_now(db, due.user_id, request_id=f"schedule {due.id}")
    shown = await service.submitted(db, owner, settings, due.spec)
    await service.ran(db, due.id, export_id=shown.job.id, next_run_at=next_run_at, again_at=None)
    after = {"export_id": str(shown.job.id), "due_at": due.next_run_at.isoformat()}
    await record(db, owner, "schedule.run", due.id, after=after)
    log.info("schedule ran", schedule_id=str(due.id), export_id=str(shown.job.id))
    return shown


async def _refuse(db: WriteSession, due: Row[Any], exc: Exception) -> None:
    if isinstance(exc, TooManyExports) and due.now - due.next_run_at < PATIENCE:
        await db.execute(update(_S).where(_S.id == due.id).values(again_at=due.now + AGAIN))
        return
    if not isinstance(exc, Refused):
        log.error("schedule cannot be run", schedule_id=str(due.id), exc_info=exc)
    why = exc if isinstance(exc, Refused) else ExportFailed()
    problem = problems.as_problem(why, None)
    await service.ran(db, due.id, last_error=problem, again_at=None, **_then(due))
    if due.last_error is None or due.last_error["type"] != problem["type"]:
        # the first of several that are alike: a record for each run of a forgotten schedule would bury the others
        await record(db, WORKER, "schedule.refused", due.id, after={"type": problem["type"], "owner": due.user_id})


def _then(due: Row[Any]) -> dict[str, Any]:
    try:
        return {"next_run_at": service.timing(due.cron, due.timezone, due.now)}
    except errors.Invalid:
        # the time zone is gone, or the rules have become stricter: it stays, switched off, and says why
        return {"next_run_at": None, "is_active": False}


async def _run_due(services: ServiceSet) -> None:
    await run_due(services.find(ExportContext))


BACKGROUND = (BackgroundStep("run the schedules that are due", _run_due),)
