"""The problem in a failed job, which its reader has to understand without another request."""

import asyncpg
import httpx

from erp_service import errors
from erp_service.exports import problems
from tests.exports.jobs import JOBS, submitted


def test_every_failed_job_says_in_its_detail_what_happened() -> None:
    kinds = [kind for kind in vars(problems).values() if isinstance(kind, type) and issubclass(kind, errors.Refused)]
    assert len(kinds) > 10
    for kind in kinds:
        stored = problems.stored_problem(kind())
        assert len(stored["detail"].split()) > 4, stored
        assert "\n" not in stored["detail"]
        assert problems.stored_problem(kind("its own"))["detail"] == "its own"


async def test_job_that_failed_before_details_were_stored_has_one(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    old = await submitted(viewer)
    await owner.execute(
        "update export_jobs set status = 'failed', error = $1::jsonb where id = $2",
        '{"type": "/problems/export-failed", "title": "The export failed", "status": 500}',
        old,
    )
    assert (await viewer.get(f"{JOBS}/{old}")).json()["error"]["detail"] == "The export failed"
