"""What is particular to the states of an import: its submission, its claim, and its success in the transaction of the
effect. The rest is the same for every kind of job: exports/jobs/states.py."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import insert

from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared
from erp_service.exports import admission
from erp_service.exports.jobs import states
from erp_service.exports.jobs.states import Run
from erp_service.imports.jobs.kind import IMPORTS
from erp_service.imports.jobs.schemas import Imported, ImportSpec
from erp_service.imports.models import ImportJob
from erp_service.imports.stored import Kind


class Claimed(msgspec.Struct, frozen=True):
    """What a run needs to know of the import that it has claimed."""

    user_id: int
    dataset: Kind
    spec: ImportSpec
    filename: str
    file_key: str | None
    file_bytes: int
    most_role: str
    api_key_id: int | None
    retention_hours: int


_RETURNED = [ImportJob.__table__.c[name] for name in Claimed.__struct_fields__]
_CLAIM = Prepared(
    states.claiming(ImportJob, phase=None, faults=None, report_key=None, report_bytes=None).returning(*_RETURNED)
)


async def insert_job(
    db: WriteSession, who: Principal, job_id: UUID, *, has_turn: bool, is_small: bool, **values: Any
) -> None:
    """Called under the admission lock. With the job of the queue, if the owner runs few enough."""
    queue_job_id = await admission.enqueue(db, job_id, is_small=is_small, kind=IMPORTS) if has_turn else None
    own = {"id": job_id, "user_id": who.user_id, "is_small": is_small, "queue_job_id": queue_job_id}
    key_id = None if who.key is None else who.key.id
    await db.execute(insert(ImportJob).values(**own, most_role=who.role, api_key_id=key_id, **values))


async def claim(db: WriteSession, run: Run, *, most_running: int) -> Claimed | None:
    """Begin an attempt, whose number must be greater than all before it. None if nothing is left to do."""
    row = (await db.execute(_CLAIM, states.claim_parameters(run))).one_or_none()
    if row is None:
        await states.end_unclaimed(db, run, most_running=most_running)
        return None
    named = dict(zip(Claimed.__struct_fields__, row, strict=True))
    return Claimed(**{**named, "spec": msgspec.convert(named["spec"], ImportSpec)})


async def succeed(
    db: WriteSession, run: Run, claimed: Claimed, result: Imported, import_id: int | None, *, most_running: int
) -> None:
    """In the transaction of the effect: so a run that has lost the job to another takes its effect back.

    Raises LostOwnership, CancelRequested."""
    await states.succeed(
        db,
        run,
        expires_at=states.NOW + timedelta(hours=claimed.retention_hours),
        rows_done=result.rows,
        rows_total=result.rows,
        rows_total_is_estimate=False,
        percent=100.0,
        result_rows=result.rows,
        result=msgspec.to_builtins(result),
        import_id=import_id,
    )
    if claimed.spec.dry_run:
        await record(db, states.WORKER, "import.checked", run.id, on_behalf_of=claimed.user_id)
    await admission.admit(db, most_running, IMPORTS)
