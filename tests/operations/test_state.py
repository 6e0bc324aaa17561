"""The state of the cluster at one address, and the record that `erp verify` leaves there."""

import asyncio
import math
import subprocess
import sys
from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.operations.state.figures import FIGURES
from erp_service.operations.state.record import record_verification
from erp_service.settings import Settings
from tests.acceptance.instances import environment
from tests.support.clients import SignIn
from tests.support.settings import as_role

STATE = "/api/v1/operations/state"


async def verified(settings: Settings) -> subprocess.CompletedProcess[str]:
    """`erp verify`, in a process of its own."""
    command = [sys.executable, "-m", "erp_service", "verify"]
    env = environment(settings)
    return await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, timeout=60)


async def state(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get(STATE)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_state_of_a_new_cluster_says_what_never_was(admin: httpx.AsyncClient) -> None:
    now = await state(admin)
    assert now["runs"] == [{"kind": kind, "succeeded": None, "failed": None} for kind in ("dump", "base", "verify")]
    assert (now["seal"]["position"], now["seal"]["sealed_at"]) == (0, None)
    assert (now["receives_wal"], now["queues"], now["scaling"]["queue_depth"]) == (None, [], 0)
    assert now["database"] == (await admin.get("/health/database")).json()
    assert now["scaling"].keys() == (await admin.get("/health/scaling")).json().keys()
    assert (now["scaling"]["instances"], now["scaling"]["workers"]) == (1, [])


async def test_state_is_for_administrators_and_keys_that_may_read_operations(sign_in: SignIn) -> None:
    for role, status in ((Role.VIEWER, 403), (Role.STAFF, 403), (Role.ADMIN, 200)):
        assert (await (await sign_in(role)).get(STATE)).status_code == status
    assert (await (await sign_in(Role.ADMIN)).get(STATE, headers={"Authorization": ""})).status_code == 401


async def test_audit_entry_that_waits_to_be_sealed_is_seen(admin: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    before = (await state(admin))["unsealed_seconds"]
    assert before is None
    await owner.execute("insert into audit_log (action, entity, entity_id) values ('item.created', 'item', '1')")
    assert 0 <= (await state(admin))["unsealed_seconds"] < 60


async def test_verify_leaves_a_record_of_books_that_hold_and_of_books_that_do_not(
    settings: Settings, admin: httpx.AsyncClient, owner: asyncpg.Connection, database: Database
) -> None:
    api = as_role(settings, "erp_api")
    assert (await verified(api)).returncode == 0
    held = (await state(admin))["runs"][2]
    assert (held["failed"], held["succeeded"]["failed_proofs"]) == (None, 0)
    assert held["succeeded"]["proofs"] > 20
    assert 0 < held["succeeded"]["seconds"] < 60
    await owner.execute("set session_replication_role = replica")
    await owner.execute("insert into stock_values (item_id, on_hand, value) values (4711, 1, 1)")
    assert (await verified(api)).returncode == 1
    both = (await state(admin))["runs"][2]
    assert both["succeeded"] == held["succeeded"]
    assert both["failed"]["failed_proofs"] > 0
    assert both["failed"]["ended_at"] > held["succeeded"]["ended_at"]
    async with database.read() as db:
        figures = await FIGURES[0].read(db)
    assert figures["erp_verify_books_hold"] == 0
    assert figures["erp_verify_last_run_timestamp_seconds"] > 1e9


async def test_verify_that_may_leave_no_record_says_so_and_ends_as_it_would(
    settings: Settings, admin: httpx.AsyncClient
) -> None:
    """As on a standby, and as a role that only reads."""
    worker = as_role(settings, "erp_worker")
    with pytest.raises(DATABASE_ERRORS):
        await record_verification(worker, seconds=1, proofs=1, failed=0)
    done = await verified(worker)
    assert done.returncode == 0, done.stderr
    assert "No record of this run was left in the database" in done.stderr
    assert (await state(admin))["runs"][2]["succeeded"] is None


async def test_copy_that_follows_another_database_takes_no_record(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    """A row of its own would stop its replication: the same row comes from the original one day."""
    await owner.execute(
        "create subscription follows connection 'dbname=nowhere' publication p with (connect = false, slot_name = none)"
    )
    done = await verified(as_role(settings, "erp_api"))
    assert done.returncode == 0
    assert "it is a copy that follows another one" in done.stderr
    assert await owner.fetchval("select count(*) from operation_runs") == 0
    await owner.execute("drop subscription follows")
    assert await record_verification(as_role(settings, "erp_api"), seconds=1, proofs=1, failed=0)


async def test_metrics_tell_nothing_of_a_verification_that_never_was(database: Database) -> None:
    async with database.read() as db:
        assert all(math.isnan(value) for value in (await FIGURES[0].read(db)).values())
