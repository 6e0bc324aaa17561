"""The whole service, with each process under its own role of the database: nothing that it does needs a right more."""

import asyncio
from pathlib import Path

import httpx
import msgspec

from erp_service.access.roles import Role
from erp_service.auth.passwords import hashed
from erp_service.db.engine import Database
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import instance, worker
from tests.support.databases import as_owner, value_of
from tests.support.settings import as_role
from tests.support.users import make_user
from tests.support.waiting import eventually

PASSWORD = "correct-Horse-7-battery"
API = "/api/v1"


async def test_api_and_worker_do_all_of_it_under_roles_of_their_own(
    cluster: Cluster, database: Database, database_name: str, settings: Settings, tmp_path: Path
) -> None:
    """Log in, post, export, run a schedule, prune, verify; files in the database itself, which needs most rights."""
    await make_user(database, Role.SUPER_ADMIN, "owner@example.com", await asyncio.to_thread(hashed, PASSWORD))
    store = {"ERP_EXPORT_STORE": "postgres:"}
    async with (
        instance(settings, tmp_path / "serve.log", **store) as process,
        # instances.worker gives it no ERP_JWT_SECRET, and production would refuse to go without
        worker(settings, tmp_path / "worker.log", ERP_ENVIRONMENT="production", **store),
        httpx.AsyncClient(base_url=f"{process.url}{API}", timeout=20) as client,
    ):
        form = {"username": "owner@example.com", "password": PASSWORD}
        tokens = (await client.post("/auth/login", data=form)).raise_for_status().json()
        tokens = (await client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})).json()
        client.headers["Authorization"] = f"Bearer {tokens['access_token']}"

        item = {"sku": "BEAN", "name": "Beans", "unit": "KG"}
        place = {"code": "SHOP", "name": "Shop", "location_type": "WAREHOUSE"}
        assert (await client.post("/inventory/items", json=item)).status_code == 201
        assert (await client.post("/inventory/locations", json=place)).status_code == 201
        receipt = {"sku": "BEAN", "location": "SHOP", "quantity": "5", "unit_cost": "2", "reference_no": "R"}
        for _ in range(2):
            posted = await client.post("/inventory/stock/in", json=receipt, headers={"Idempotency-Key": "once"})
            assert posted.status_code == 201, posted.text

        job = (await client.post("/exports/jobs", json={"dataset": "stock_movements"})).raise_for_status().json()
        file = await download(client, job["id"])
        assert file.text.count("\n") == 2
        assert (await client.delete(f"/exports/jobs/{job['id']}")).status_code == 204

        planned = {"cron": "0 4 1 1 *", "timezone": "UTC", "spec": {"dataset": "users"}}
        schedule = (await client.post("/exports/schedules", json=planned)).raise_for_status().json()
        await as_owner(cluster, "update export_schedules set next_run_at = now()", database=database_name)

        async def ran() -> str:
            seen = (await client.get(f"/exports/schedules/{schedule['id']}")).json()
            assert seen["last_error"] is None, seen
            return str(seen["last_job"]["id"]) if seen["last_job"] else ""

        exported = (await download(client, await eventually(ran, seconds=30))).text
        assert "owner@example.com" in exported
        assert "argon2" not in exported

        connected = "select string_agg(distinct application_name || ' ' || usename, ', ') from pg_stat_activity"
        roles = await value_of(cluster, f"{connected} where datname = '{database_name}' and usename <> 'postgres'"
                               " and application_name in ('erp', 'erp worker')")  # fmt: skip
        assert roles == "erp erp_api, erp worker erp_worker"
        actions = "select string_agg(distinct action, ' ') from audit_log where user_id is not null"
        assert "schedule.run" in str(await value_of(cluster, actions, database=database_name))
    as_api = as_role(msgspec.structs.replace(settings, export_store="postgres:"), "erp_api")
    assert await verify(as_api) == []
    assert "permission denied" not in (tmp_path / "worker.log").read_text() + (tmp_path / "serve.log").read_text()


async def download(client: httpx.AsyncClient, export_id: str) -> httpx.Response:
    async def done() -> bool:
        job = (await client.get(f"/exports/jobs/{export_id}")).json()
        assert job["status"] != "failed", job
        return bool(job["status"] == "succeeded")

    await eventually(done, seconds=30)
    return (await client.get(f"/exports/jobs/{export_id}/download")).raise_for_status()
