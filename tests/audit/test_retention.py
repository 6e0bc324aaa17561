"""Audit entries are removed when they are older than the company keeps them, behind their positions, and nothing else
is."""

import asyncpg
import httpx
import pytest

from erp_service.audit.retention import prune
from erp_service.audit.sealing.proofs import PROOFS
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices
from tests.support.trail import seal_all

OLD = """
insert into audit_log (at, action, entity, entity_id)
select now() - make_interval(days => $2::integer), 'item.created', 'item', n::text
from generate_series(1, $1::integer) n
"""


async def keep(owner: asyncpg.Connection, days: int | None) -> None:
    await owner.execute("update company set settings = jsonb_build_object('audit_retention_days', $1::integer)", days)


async def test_what_is_older_and_sealed_is_removed_and_the_chain_still_holds(
    settings: Settings, owner: asyncpg.Connection, worker_services: WorkerServices, admin: httpx.AsyncClient
) -> None:
    await owner.execute(OLD, 5, 100)
    await owner.execute(OLD, 1, 10)
    # older than what is kept, but behind what is not
    await owner.execute(OLD, 1, 100)
    await seal_all(settings)
    await owner.execute(OLD, 1, 100)
    await keep(owner, None)
    assert await prune(worker_services.database) == 0
    await keep(owner, 50)
    assert await prune(worker_services.database, batch=3) == 5
    assert await prune(worker_services.database) == 0
    assert await verify(settings, PROOFS) == []
    await seal_all(settings)
    assert await verify(settings, PROOFS) == []

    records = (await admin.get("/api/v1/audit", params={"action": "audit.pruned"})).json()["items"]
    assert [(one["after"]["first_position"], one["after"]["position"]) for one in records] == [(4, 5), (1, 3)]
    answer = await admin.get("/api/v1/events", params={"after": "4"})
    assert (answer.status_code, answer.json()["first_position"]) == (410, 6)
    for query in ({"after": "5"}, {}):
        events = (await admin.get("/api/v1/events", params=query)).json()["items"]
        assert [event["position"] for event in events] == [6, 7, 8, 9, 10]

    await owner.execute("alter table audit_log disable trigger user; delete from audit_log where id = 6")
    (finding,) = await verify(settings, PROOFS)
    assert [row["position"] for row in finding.rows] == [6]


@pytest.mark.parametrize("days", [0, -1, 29])
async def test_nothing_younger_than_a_month_is_removed_whatever_the_settings_say(
    settings: Settings, owner: asyncpg.Connection, worker_services: WorkerServices, days: int
) -> None:
    await owner.execute(OLD, 3, 29)
    await seal_all(settings)
    await keep(owner, days)
    assert await prune(worker_services.database) == 0


async def test_nobody_deletes_audit_entries_otherwise(
    settings: Settings, owner: asyncpg.Connection, worker_services: WorkerServices
) -> None:
    await owner.execute(OLD, 1, 100)
    await seal_all(settings)
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.execute("delete from audit_log")
    async with worker_services.database.autocommit() as db:
        await db.run("select set_config('erp.pruning', 'on', false)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.run("delete from audit_log")
    assert not await owner.fetchval("select has_function_privilege('erp_api', 'erp_prune_audit(integer)', 'execute')")
    assert await owner.fetchval("select count(*) from audit_log") == 1
