"""Ten thousand writes through one instance, each read at once through another, from a replica that is slow."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from time import monotonic

import asyncpg
import msgspec
import pytest
from sqlalchemy import update

from erp_service.db.engine import Database
from erp_service.db.sessions import ReadSession
from erp_service.inventory.models import StockBalance
from erp_service.reports.queries.snapshot import SNAPSHOT
from erp_service.reports.schemas import SnapshotPage
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.chaos.record import Record
from tests.support.databases import as_owner
from tests.support.replication import replica_of, slowed
from tests.support.settings import settings_for
from tests.support.waiting import eventually

LANES, TIMES = 10, 1000


@pytest.fixture
async def replica(cluster: Cluster) -> AsyncIterator[Cluster]:
    await as_owner(cluster, "alter system set wal_keep_size = '1GB'", "select pg_reload_conf()")
    with tempfile.TemporaryDirectory(prefix="erp-replica-") as directory:
        async with replica_of(cluster, Path(directory)) as replica:
            yield replica
    await as_owner(cluster, "alter system reset wal_keep_size", "select pg_reload_conf()")


@pytest.fixture
def settings(cluster: Cluster, database_name: str, tmp_path: Path, replica: Cluster) -> Settings:
    there = replica.role_url("erp_reader", database_name)
    return msgspec.structs.replace(settings_for(cluster, database_name, tmp_path), replica_url=there)


class Reports:
    """One lane: writes a quantity, and reads the report through the other instance."""

    def __init__(self, writer: Database, reader: Database, item_id: int) -> None:
        self._writer, self._reader, self._item_id = writer, reader, item_id
        self.on_replica = 0

    async def go(self) -> None:
        for n in range(1, TIMES + 1):
            async with self._writer.write() as db:
                mine = update(StockBalance).where(StockBalance.item_id == self._item_id)
                await db.execute(mine.values(on_hand=n))
            page = await self._reader.reading(self._report)
            assert [row.on_hand for row in page.items] == [Decimal(n)]

    async def _report(self, db: ReadSession) -> SnapshotPage:
        driver = db.driver
        assert isinstance(driver, asyncpg.Connection)
        # the server reports at connection whether it is in recovery
        self.on_replica += getattr(driver.get_settings(), "in_hot_standby", "off") == "on"
        return await SNAPSHOT.page(db, currency="EUR", item_id=self._item_id, limit=2)


async def test_ten_thousand_writes_are_read_at_once_by_another_instance_while_the_replica_is_slow(
    settings: Settings, replica: Cluster, owner: asyncpg.Connection, record: Record
) -> None:
    await owner.execute(
        f"insert into items (sku, name, unit) select 'S' || n, 'N', 'pcs' from generate_series(1, {LANES}) n;"
        "insert into locations (code, name, location_type) values ('MAIN', 'Main', 'BIN');"
        "insert into stock_balances (item_id, location_id) select i.id, l.id from items i, locations l"
    )
    one, other = Database(settings, name="one"), Database(settings, name="other")
    try:
        await eventually(partial(_in_use, one))
        await eventually(partial(_in_use, other))
        ids = [row["id"] for row in await owner.fetch("select id from items")]
        lanes = [Reports(*((one, other) if item_id % 2 else (other, one)), item_id) for item_id in ids]
        began = monotonic()
        async with slowed(replica):
            await asyncio.gather(*(lane.go() for lane in lanes))
        took = monotonic() - began
    finally:
        await one.close()
        await other.close()
    on_replica = sum(lane.on_replica for lane in lanes)
    assert LANES * TIMES > on_replica > LANES * TIMES / 10, "it was not slow, or not used"
    record(seconds=took, starts="-", effects=f"{on_replica} from it, none missed")


async def _in_use(database: Database) -> bool:
    found = database.replica()
    return found is not None and found.in_use
