"""A dump that is restored has a trail that holds and goes on; a head that was kept elsewhere shows what it lacks."""

import asyncio
from pathlib import Path

import asyncpg
import msgspec

from erp_service.audit.sealing.heads import head_proof
from erp_service.db.engine import Database
from erp_service.operations.verify import verify
from erp_service.settings import Settings
from erp_service.standalone.demo import load_demo
from erp_service.standalone.postgres import Cluster
from tests.support.databases import as_owner, connected
from tests.support.trail import seal_all, sealed

ENTRY = "insert into audit_log (action, entity, entity_id) values ('item.created', 'item', '1')"
HEAD = "select position || ':' || encode(link, 'hex') from trail order by position desc limit 1"


async def run(program: Path, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(program, *arguments)
    assert await process.wait() == 0


async def test_positions_go_on_and_the_head_shows_that_it_is_behind(
    settings: Settings, cluster: Cluster, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await load_demo(settings.database_url)
    await seal_all(settings)
    assert await verify(settings) == [], "real books, with every kind of document"
    assert await owner.fetchval("select count(*) from trail where source = 'stock_ledger'") > 0
    async with connected(settings.migration_database_url or "") as late:
        # never in the dump, though its id is below others that are
        transaction = late.transaction()
        await transaction.start()
        await late.execute(ENTRY)
        await owner.execute(ENTRY)
        await seal_all(settings)
        at_dump = await owner.fetchval(HEAD)
        dump = tmp_path / "dump"
        await run(cluster.bin / "pg_dump", "--format=custom", f"--file={dump}", settings.migration_database_url or "")
        await transaction.commit()
    await owner.execute(ENTRY)
    await seal_all(settings)
    later = await owner.fetchval(HEAD)

    name = f"restored_{tmp_path.name}"
    await as_owner(cluster, f'create database "{name}"')
    try:
        await run(cluster.bin / "pg_restore", "--exit-on-error", f"--dbname={cluster.owner_url(name)}", str(dump))
        restored = msgspec.structs.replace(
            settings, database_url=cluster.app_url(name), migration_database_url=cluster.owner_url(name)
        )
        assert await verify(restored, [head_proof([at_dump])]) == []
        (finding,) = await verify(restored, [head_proof([at_dump, later])])
        assert finding.total == 1
        async with connected(cluster.owner_url(name)) as copy:
            before = await sealed(copy)
            await copy.execute(ENTRY)
            await seal_all(restored)
            await seal_all(restored)
            after = await sealed(copy)
        assert after[:-1] == before
        assert after[-1][0] == before[-1][0] + 1
        assert await verify(restored) == []
    finally:
        await as_owner(cluster, f'drop database "{name}" with (force)')
