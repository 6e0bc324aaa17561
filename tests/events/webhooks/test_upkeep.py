"""What is removed, measured and proved of webhooks, and what the roles of the database may do with them."""

from typing import Any

import asyncpg
import msgspec
import pytest

from erp_service.db.engine import Database
from erp_service.events.webhooks.proofs import PROOFS
from erp_service.events.webhooks.upkeep import HOUSEKEEPING, MOST_KEPT
from erp_service.operations.verify import verify
from erp_service.services import build_services
from erp_service.settings import Settings, SettingsError
from erp_service.worker_services import WorkerServices, build_worker_services
from tests.events.webhooks.endpoints import deliveries, happen, make
from tests.support.clients import UserClient

URL = "https://shop.example.com/hook"
LIST = """
insert into webhook_deliveries (webhook_id, position, type, attempt, status, milliseconds, response, at)
select $1::uuid, n, 'item.updated', 1, 204, 1, '', now() - $2 * interval '1 day' from generate_series(1, $3) n"""


async def test_list_of_deliveries_ends_after_30_days_and_after_ten_thousand(
    admin: UserClient, worker_services: WorkerServices, owner: asyncpg.Connection
) -> None:
    busy, quiet = await make(admin, URL), await make(admin, "https://quiet.example.com/")
    await owner.execute(LIST, busy["id"], 1, MOST_KEPT + 700)
    await owner.execute(LIST, quiet["id"], 31, 3)
    await owner.execute(LIST, quiet["id"], 29, 2)
    for pruning in HOUSEKEEPING:
        await worker_services.housekeeping.prune(worker_services.database, pruning)
    count = "select count(*), min(position) from webhook_deliveries where webhook_id = $1::uuid"
    assert tuple(await owner.fetchrow(count, busy["id"])) == (MOST_KEPT, 701), "the newest stay"
    assert tuple(await owner.fetchrow(count, quiet["id"])) == (2, 1)
    assert [one["position"] for one in await deliveries(admin, quiet)] == [2, 1]


async def test_figures_tell_of_the_worst(
    admin: UserClient, settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    async def figures() -> dict[str, float]:
        lines = (await admin.get("/metrics")).text.splitlines()
        pairs = [line.split(" ") for line in lines if line.startswith("erp_webhooks_")]
        return {name.removeprefix("erp_webhooks_"): float(value) for name, value in pairs}

    first, second = await make(admin, URL), await make(admin, "https://other.example.com/")
    await happen(settings, database, "item.updated")
    await owner.execute(
        "update webhooks set blocked_position = cursor + 1, blocked_since = now(), failures = 1 where id = $1::uuid",
        first["id"],
    )
    await owner.execute(
        "update webhooks set is_active = false, disabled_because = 'FAILED' where id = $1::uuid", second["id"]
    )
    async with owner.transaction():
        await owner.execute("set local session_replication_role = replica")
        await owner.execute("update trail set sealed_at = now() - interval '1 hour'")
    now = await figures()
    assert (now["active"], now["blocked"], now["disabled"]) == (1, 1, 1)
    assert 3590 < now["lag_seconds"] < 3700


async def test_a_webhook_beyond_the_trail_is_found(
    admin: UserClient, settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    """As after a restore of an older backup of a part of the tables."""
    made = await make(admin, URL)
    await happen(settings, database, "item.updated")
    assert await verify(settings, PROOFS) == []
    for change, fault in [
        ("update webhooks set cursor = cursor + 1000", "its cursor is beyond the trail"),
        ("delete from webhook_secrets", "it has not one present secret"),
    ]:
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute(change)
        rows = await owner.fetch(PROOFS[0].rows)
        assert [(str(row["id"]), row["fault"]) for row in rows] == [(made["id"], fault)]
        await transaction.rollback()


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("erp_reader", "select secret from webhook_secrets"),
        ("erp_reader", "select url from webhooks"),
        ("erp_reader", "select response from webhook_deliveries"),
        ("erp_worker", "update webhooks set url = 'https://elsewhere.example.com/'"),
        ("erp_worker", "update webhooks set types = null"),
        ("erp_worker", "insert into webhook_secrets (webhook_id, secret) select id, 'known' from webhooks"),
        ("erp_worker", "update webhook_secrets set valid_until = null"),
        ("erp_api", "insert into webhook_deliveries (webhook_id) select id from webhooks"),
        ("erp_api", "delete from webhook_deliveries"),
    ],
)
async def test_role_of_the_database_may_not(owner: asyncpg.Connection, role: str, statement: str) -> None:
    await owner.execute(f"set role {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.execute(statement)


async def test_secret_is_in_no_answer_but_the_first(admin: UserClient) -> None:
    made = await make(admin, URL)
    secret: str = made["secret"]
    paths = ["/api/v1/webhooks", f"/api/v1/webhooks/{made['id']}", f"/api/v1/webhooks/{made['id']}/deliveries"]
    paths += ["/api/v1/audit", "/api/v1/events", "/schema/openapi.json"]
    for path in paths:
        answer: Any = await admin.get(path)
        assert answer.status_code == 200, path
        assert secret.removeprefix("whsec_") not in answer.text


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "localhost", "10.0.0.0/8;192.168.0.0/16"])
def test_networks_that_are_none_stop_the_start(settings: Settings, networks: str) -> None:
    settings = msgspec.structs.replace(settings, webhook_networks=networks)
    for build in (build_services, build_worker_services):
        with pytest.raises(SettingsError, match="ERP_WEBHOOK_NETWORKS cannot be used"):
            build(settings)
