"""Jobs that belong to the caller's transaction: they commit or roll back with everything else in it.

A worker sees a job a few milliseconds after the commit, and never before. These are statements over the functions of
Procrastinate's schema, so that an instance of the API loads neither Procrastinate nor psycopg, which take 10 MiB."""

import json
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import text

from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared

_DEFER = Prepared(
    text("""
    select unnest(procrastinate_defer_jobs_v1(array[cast(row(
      cast(:queue as varchar), cast(:task as varchar), cast(:priority as integer), cast(:lock as text),
      cast(:queueing_lock as text), cast(cast(:arguments as text) as jsonb), cast(:schedule_at as timestamptz)
    ) as procrastinate_job_to_defer_v1)]))
""")
)
_CANCEL = Prepared(text("select procrastinate_cancel_job_v1(:id, true, false)"))
_IS_DOING = Prepared(text("select status = 'doing' from procrastinate_jobs where id = :id"))


async def defer(
    db: WriteSession,
    task: str,
    *,
    queue: str,
    arguments: Mapping[str, object],
    priority: int = 0,
    lock: str | None = None,
    queueing_lock: str | None = None,
    schedule_at: datetime | None = None,
) -> int:
    """Put a job for the task of this name into the queue, in the caller's transaction. Returns the job's id.

    The task is given by name, since it imports the service that defers it. `arguments` are of JSON's types. If a job
    with this `queueing_lock` waits already, a unique constraint refuses it; to go on in the same transaction, the call
    needs a savepoint around it."""
    job = {
        "queue": queue,
        "task": task,
        "priority": priority,
        "lock": lock,
        "queueing_lock": queueing_lock,
        "arguments": json.dumps(arguments),
        "schedule_at": schedule_at,
    }
    job_id: int = await db.scalar(_DEFER, job)
    return job_id


async def cancel(db: WriteSession, job_id: int) -> bool:
    """When the caller's transaction commits, cancel a waiting job, or request the worker that runs it to stop.

    False if there is nothing to cancel: there is no such job, or it has ended."""
    return await db.scalar(_CANCEL, {"id": job_id}) is not None


async def is_doing(db: WriteSession, job_id: int) -> bool:
    """Whether a worker runs the job, as the queue knows. After `cancel`: whether a worker is left to stop it."""
    return await db.scalar(_IS_DOING, {"id": job_id}) is True
