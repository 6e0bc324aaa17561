"""What people do with schedules. Each in the caller's transaction; due.py runs those that are due."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Row, Select, delete, func, insert, select, update
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.company.settings import CompanySettings
from erp_service.db import locks
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session, WriteSession
from erp_service.errors import Fault
from erp_service.exports import service
from erp_service.exports.models import ExportJob, Status
from erp_service.exports.planning.relative import Moment
from erp_service.exports.planning.request import read_request
from erp_service.exports.queries import VersionedExport
from erp_service.exports.schedules import cron
from erp_service.exports.schedules.models import ExportSchedule, TooManySchedules
from erp_service.exports.schedules.owners import as_owner
from erp_service.exports.schedules.schemas import DayRule, LastJob, ScheduleBody, ScheduleOut, SchedulePage
from erp_service.exports.schemas import ExportRequest
from erp_service.timestamps import parse_zone, stored_zone

PATH = "/api/v1/exports/schedules"
MOST_PER_USER = 50
SHORTEST_MINUTES = 5

_COLUMNS = ExportSchedule.__table__.c
_SELECTED = select(*_COLUMNS, ExportJob.status.label("export_status")).outerjoin(
    ExportJob, ExportJob.id == ExportSchedule.last_export_id
)
_NEWEST_FIRST = SortOrder([SortKey(ExportSchedule.id, "id", UUID)], descending=True)
_STATUSES = list(Status)


class VersionedSchedule(msgspec.Struct, frozen=True):
    """A schedule with the version that its ETag is made of."""

    schedule: ScheduleOut
    version: int


async def schedule(db: Session, who: Principal, schedule_id: UUID) -> VersionedSchedule:
    """One's own, or anybody's for an ADMIN; raises errors.NotFound."""
    return _versioned(await _one(db, _visible(who, schedule_id), schedule_id))


async def schedules(
    db: Session, who: Principal, *, mine: bool, is_active: bool | None, limit: int, cursor: str | None
) -> SchedulePage:
    """Raises errors.Forbidden if anybody but an ADMIN asks for the schedules of others; errors.Invalid."""
    statement = _SELECTED
    if mine:
        statement = statement.where(ExportSchedule.user_id == who.user_id)
    elif not who.role.includes(Role.ADMIN):
        raise errors.Forbidden("The schedules of others are for the role ADMIN.")
    if is_active is not None:
        statement = statement.where(ExportSchedule.is_active == is_active)
    return await page(db, statement, _represented, _NEWEST_FIRST, limit=limit, cursor=cursor, into=SchedulePage)


async def lock_for_update(db: WriteSession, who: Principal, schedule_id: UUID) -> VersionedSchedule:
    """The schedule, which nobody else changes or runs before the transaction ends; raises errors.NotFound."""
    statement = _visible(who, schedule_id).with_for_update(of=ExportSchedule)
    return _versioned(await _one(db, statement, schedule_id))


async def create(db: WriteSession, who: Principal, settings: CompanySettings, body: ScheduleBody) -> VersionedSchedule:
    """Raises errors.Forbidden, errors.Invalid, TooManySchedules."""
    if who.user_id is None:
        raise errors.Forbidden("A schedule belongs to a person.")
    next_run_at = await _next_run(db, body)
    _check_spec(who, settings, body)
    # one at a time for each user: two at once would each be the last one allowed
    await locks.take(db, locks.schedules_of(who.user_id))
    present = await db.scalar(select(func.count()).where(ExportSchedule.user_id == who.user_id))
    if present is not None and present >= MOST_PER_USER:
        raise TooManySchedules(f"One user may have {MOST_PER_USER}.")
    values = _values(body)
    schedule_id = uuid7()
    own = {"id": schedule_id, "user_id": who.user_id, "next_run_at": next_run_at, **_changed_by(who.user_id, who)}
    await db.execute(insert(ExportSchedule).values(**own, **values))
    await record(db, who, "schedule.created", schedule_id, after=values)
    return await schedule(db, who, schedule_id)


async def replace(
    db: WriteSession, who: Principal, settings: CompanySettings, present: VersionedSchedule, body: ScheduleBody
) -> VersionedSchedule:
    """Replace everything that a client may write. A body that changes nothing leaves no trace.

    The next run is computed again only if its time may have changed, so that an edit cannot lose a run that is due.
    Raises errors.Forbidden, errors.Invalid."""
    before, values = present.schedule, _values(body)
    old = {name: getattr(before, name) for name in values}
    # an owner who saves what somebody else, or a key, has written takes it as their own
    adopts = who.key is None and who.user_id == before.owner and before.most_role is not None
    if old == values and not adopts:
        return present
    next_run_at = await _next_run(db, body)
    if body.is_active or before.spec != values["spec"]:
        _check_spec(await as_owner(db, before, who, most=who.role), settings, body)
    if all(old[name] == values[name] for name in ("cron", "timezone", "is_active")):
        next_run_at = before.next_run_at
    changed = update(ExportSchedule).where(ExportSchedule.id == before.id)
    changed = changed.values(**values, **_changed_by(before.owner, who), next_run_at=next_run_at)
    changed = changed.values(again_at=None, last_error=None)
    await db.execute(changed.values(version=ExportSchedule.version + 1, updated_at=func.now()))
    await record(db, who, "schedule.updated", before.id, before=old, after=values, on_behalf_of=before.owner)
    return await schedule(db, who, before.id)


async def remove(db: WriteSession, who: Principal, present: VersionedSchedule) -> None:
    """The exports that it has submitted stay."""
    out = present.schedule
    await db.execute(delete(ExportSchedule).where(ExportSchedule.id == out.id))
    before = {name: getattr(out, name) for name in ("owner", "cron", "timezone", "spec", "is_active")}
    await record(db, who, "schedule.deleted", out.id, before=before, on_behalf_of=out.owner)


async def run(
    db: WriteSession, who: Principal, settings: CompanySettings, present: VersionedSchedule
) -> VersionedExport:
    """Run it now, in addition to its own times: as its owner, with no more rights than `who` has.

    Raises errors.Forbidden, errors.Invalid, TooManyExports."""
    out = present.schedule
    owner = await as_owner(db, out, who, most=who.role.at_most(out.most_role))
    now = await db.scalar(select(func.now()))
    export = await submit_export(db, owner, settings, out.spec, _moment(out.timezone, now))
    await record_run(db, out.id, export_id=export.job.id)
    await record(db, owner, "schedule.run", out.id, after={"export_id": str(export.job.id)})
    return export


async def record_run(db: WriteSession, schedule_id: UUID, **values: object) -> None:
    """Record that it ran just now, with `export_id`, or was refused, with `last_error`."""
    export_id = values.pop("export_id", None)
    if export_id is not None:
        values |= {"last_export_id": export_id, "last_error": None}
    changed = update(ExportSchedule).where(ExportSchedule.id == schedule_id)
    await db.execute(changed.values(version=ExportSchedule.version + 1, last_run_at=func.now(), **values))


async def submit_export(
    db: WriteSession, owner: Principal, settings: CompanySettings, spec: dict[str, Any], moment: Moment
) -> VersionedExport:
    """Submit the schedule's export like any other; relative times in it are those at `moment`.

    Raises errors.Forbidden, errors.Invalid, TooManyExports."""
    try:
        request = msgspec.convert(spec, ExportRequest)
    except msgspec.ValidationError as exc:
        # another version of this service has written it
        raise errors.Invalid("The spec can no longer be read.", Fault(str(exc), pointer="/spec")) from None
    return await service.submit(db, owner, settings, request, moment)


def _changed_by(owner: int, who: Principal) -> dict[str, object]:
    """A key's role limits the runs of what it writes, as that of another user does."""
    if who.user_id == owner and who.key is None:
        return {"changed_by": None, "most_role": None}
    return {"changed_by": who.user_id, "most_role": who.role}


def timing(
    cron_text: str, timezone: str, after: datetime, *, read_zone: Callable[[str], ZoneInfo] = parse_zone
) -> datetime:
    """The first run later than `after`; raises errors.Invalid that names what cannot be used."""
    faults, where = [], None
    try:
        where = read_zone(timezone)
    except ValueError as exc:
        faults.append(Fault(str(exc), pointer="/timezone"))
    try:
        found = cron.read(cron.expanded(cron_text))
        if found.shortest < SHORTEST_MINUTES:
            raise ValueError(f"runs {found.shortest} min apart, and {SHORTEST_MINUTES} min is the least")
        if where is not None:
            return cron.next_run(found, where, after)
    except ValueError as exc:
        faults.append(Fault(f"is not a time to run: {exc}", pointer="/cron"))
    raise errors.Invalid(None, *faults)


async def _next_run(db: WriteSession, body: ScheduleBody) -> datetime | None:
    """By the clock of the database, since those of the instances may differ. None for an inactive schedule."""
    now = await db.scalar(select(func.now()))
    run_at = timing(body.cron, body.timezone, now)
    return run_at if body.is_active else None


def _moment(timezone: str, at: datetime) -> Moment:
    try:
        return Moment(at, stored_zone(timezone))
    except ValueError as exc:
        raise errors.Invalid(None, Fault(str(exc), pointer="/timezone")) from None


def _check_spec(owner: Principal, settings: CompanySettings, body: ScheduleBody) -> None:
    try:
        read_request(owner, settings, body.spec, _moment(body.timezone, datetime.now(UTC)))
    except errors.Invalid as exc:
        inside = [msgspec.structs.replace(fault, pointer=f"/spec{fault.pointer or ''}") for fault in exc.faults]
        raise errors.Invalid(exc.detail, *inside) from None


def _values(body: ScheduleBody) -> dict[str, object]:
    return {
        "cron": _five_fields(body.cron),
        "timezone": body.timezone,
        "spec": _spec(body.spec),
        "is_active": body.is_active,
    }


def _spec(request: ExportRequest) -> dict[str, object]:
    """Without what is not set of the members that a worker of the version before does not know."""
    spec: dict[str, object] = msgspec.to_builtins(request)
    return {name: value for name, value in spec.items() if value is not None or name not in ("for", "timezone")}


def _five_fields(text: str) -> str:
    """What is stored: a worker of the version before knows no nicknames. What is no cron at all is told by `timing`."""
    with contextlib.suppress(ValueError):
        return cron.expanded(text)
    return text


def _visible(who: Principal, schedule_id: UUID) -> Select[Any]:
    statement = _SELECTED.where(ExportSchedule.id == schedule_id)
    return statement if who.role.includes(Role.ADMIN) else statement.where(ExportSchedule.user_id == who.user_id)


async def _one(db: Session, statement: Select[Any], schedule_id: UUID) -> Row[Any]:
    row: Row[Any] | None = (await db.execute(statement)).one_or_none()
    if row is None:
        raise errors.NotFound(f"You have no schedule {schedule_id}.")
    return row


def _versioned(row: Row[Any]) -> VersionedSchedule:
    """The version depends on the row's own and on the status of the last export, which is all that is shown of it."""
    out = _represented(*row)
    status = 0 if out.last_job is None else 1 + _STATUSES.index(out.last_job.status)
    return VersionedSchedule(out, row.version * 10 + status)


def _day_rule(cron_text: str) -> DayRule | None:
    rule = cron.day_rule(cron_text)
    return None if rule is None else DayRule(*rule)


def _represented(*values: Any) -> ScheduleOut:
    row = dict(zip([*_COLUMNS.keys(), "export_status"], values, strict=True))
    last = None if row["last_export_id"] is None else LastJob(row["last_export_id"], Status(row["export_status"]))
    return ScheduleOut(
        id=row["id"],
        owner=row["user_id"],
        cron=row["cron"],
        day_rule=_day_rule(row["cron"]),
        timezone=row["timezone"],
        spec=row["spec"],
        is_active=row["is_active"],
        next_run_at=row["next_run_at"],
        last_run_at=row["last_run_at"],
        last_job=last,
        last_error=row["last_error"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        changed_by=row["changed_by"] or row["user_id"],
        most_role=None if row["most_role"] is None else Role(row["most_role"]),
    )
