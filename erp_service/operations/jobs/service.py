"""What operators do with jobs: try again and cancel, one or many, each in the caller's transaction."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple
from uuid import UUID

from asyncpg import IntegrityConstraintViolationError
from msgspec.structs import replace
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Actor, KeyGrant, Principal
from erp_service.access.scopes import Scope
from erp_service.audit.record import record
from erp_service.auth import queries as auth_queries
from erp_service.company.settings import company_settings
from erp_service.db.outages import constraint_of
from erp_service.db.sessions import Session, WriteSession
from erp_service.exports import service as exports
from erp_service.imports.jobs import service as imports
from erp_service.operations.jobs.problems import ImportNotRetried
from erp_service.operations.jobs.schemas import Outcome, Outcomes
from erp_service.problems import as_problem
from erp_service.queue import inspection as queue


class Done(NamedTuple):
    """What was done, in a sentence, and the new export if there is one."""

    said: str
    export_id: UUID | None = None


Work = Callable[[WriteSession, Principal, UUID | int], Awaitable[Done]]


class _Target(NamedTuple):
    """A job by its number, or by the id of the export or the import that it makes."""

    makes: Literal["export", "import"] | None
    id: UUID | int


_TARGET = text("""
    select 'export', id from export_jobs
    where id = cast(cast(:id as text) as uuid) or queue_job_id = cast(:number as bigint)
    union all
    select 'import', id from import_jobs
    where id = cast(cast(:id as text) as uuid) or queue_job_id = cast(:number as bigint)
""")
_OWNER = text("select user_id from export_jobs where id = :id")

_EVERY_SCOPE = frozenset(Scope)


async def retry_job(db: WriteSession, who: Principal, job: UUID | int) -> Done:
    """Try again what failed: an export as a new export of the same owner, a job of another kind as it is.

    `job` is the id of an export, or the number of a job in the queue.

    Raises errors.NotFound, errors.Forbidden, errors.Conflict, TooManyExports."""
    makes, id_ = await _target(db, job)
    if makes == "import":
        raise ImportNotRetried(f"The job makes the import {id_}: submit its file again.")
    if not isinstance(id_, UUID):
        await queue.retry(db, id_)
        await record(db, who, "job.retried", id_)
        return Done(f"Job {id_} waits again.")
    owner = await _owner(db, who, id_)
    new = (await exports.retry(db, owner, await company_settings(db), id_)).job.id
    await record(db, who, "export.retried", id_, after={"id": str(new)}, on_behalf_of=owner.user_id)
    return Done(f"Export {new} tries {id_} again.", new)


async def cancel_job(db: WriteSession, who: Principal, job: UUID | int) -> Done:
    """Cancel an export, an import or another job: at once if it waits, within a second if it runs.

    Raises errors.NotFound, errors.Conflict."""
    makes, id_ = await _target(db, job)
    if makes is None or not isinstance(id_, UUID):
        number = int(id_)
        await queue.cancel(db, number)
        await record(db, who, "job.canceled", number)
        return Done(f"Job {number} is canceled, or stops within a second.")
    if makes == "export":
        return Done(f"Export {id_} is {(await exports.cancel(db, who, id_)).job.status}.")
    return Done(f"Import {id_} is {(await imports.cancel(db, who, id_)).job.status}.")


async def each(db: WriteSession, who: Principal, jobs: Sequence[str], work: Work) -> Outcomes:
    """Do `work` with each of the jobs. What is refused of one changes nothing of the others."""
    wanted = list(dict.fromkeys(jobs))
    # in one order, so that two requests for the same jobs do not wait for each other in a circle
    outcomes = {job: await _one(db, who, job, work) for job in sorted(wanted)}
    items = [outcomes[job] for job in wanted]
    return Outcomes(items, sum(item.done for item in items))


async def _one(db: WriteSession, who: Principal, job: str, work: Work) -> Outcome:
    try:
        async with db.savepoint():
            done = await work(db, who, int(job) if job.isdecimal() else UUID(job))
    except errors.Refused as refusal:
        return Outcome(job, done=False, said=None, export_id=None, problem=as_problem(refusal, None))
    except IntegrityConstraintViolationError as exc:
        if (meaning := errors.meaning_of(constraint_of(exc))) is None:
            raise
        return Outcome(job, done=False, said=None, export_id=None, problem=as_problem(meaning, None))
    return Outcome(job, done=True, said=done.said, export_id=done.export_id, problem=None)


async def _target(db: Session, job: UUID | int) -> _Target:
    """Raises errors.NotFound for an id that neither an export nor an import has."""
    number, id_ = (job, None) if isinstance(job, int) else (None, str(job))
    if (row := (await db.execute(_TARGET, {"id": id_, "number": number})).one_or_none()) is not None:
        return _Target(*row)
    if isinstance(job, UUID):
        raise errors.NotFound(f"There is no export or import {job}.")
    return _Target(None, job)


async def _owner(db: Session, who: Principal, export_id: UUID) -> Principal:
    """The principal that the new export runs for: its owner with the role that they have now, in a request of `who`.
    Raises errors.Forbidden if the owner is no longer active."""
    user_id: int = await db.scalar(_OWNER, {"id": export_id})
    authority = await auth_queries.authority(db, user_id)
    if authority is None or not authority.active:
        raise errors.Forbidden(f"The owner of export {export_id} is no longer active.")
    # the new export is the owner's, so the scopes of the operator's key do not limit what is in it
    key = None if who.key is None else KeyGrant(who.key.id, _EVERY_SCOPE)
    return replace(who, user_id=user_id, role=authority.role, actor=who.actor or Actor(who.user_id), key=key)
