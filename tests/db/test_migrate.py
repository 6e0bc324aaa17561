"""The migrations build what the models define, also when several hosts migrate at once; history cannot be rewritten."""

import asyncio
import sys

import asyncpg
import pytest

from erp_service import errors
from erp_service.db import migrate as schema
from erp_service.db import revisions
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.support.databases import as_owner, connected, value_of
from tests.support.schemas import migrate_to_before
from tests.support.waiting import eventually


async def test_models_and_migrations_agree(settings: Settings) -> None:
    engine = schema.engine_of(settings.migration_database_url or "")
    async with engine.connect() as connection:
        await connection.run_sync(schema.compare)
    await engine.dispose()


async def test_several_hosts_may_migrate_at_once(cluster: Cluster) -> None:
    await as_owner(cluster, "create database migrated_at_once")
    url = cluster.owner_url("migrated_at_once")
    code = f"import asyncio; from erp_service.db.migrate import migrate; asyncio.run(migrate({url!r}))"
    hosts = [await asyncio.create_subprocess_exec(sys.executable, "-c", code) for _ in range(3)]
    assert [await host.wait() for host in hosts] == [0, 0, 0]
    await as_owner(cluster, "drop database migrated_at_once")


async def test_an_empty_database_and_one_behind_are_told_apart_from_one_ahead(
    database: Database, owner: asyncpg.Connection
) -> None:
    async def fault() -> str | None:
        async with database.read() as db:
            return await revisions.behind(db)

    assert await fault() is None
    await owner.execute("update alembic_version set version_num = '0001'")
    assert "erp migrate" in (await fault() or "")
    await owner.execute("update alembic_version set version_num = '9999'")
    assert await fault() is None
    await owner.execute("drop table alembic_version")
    assert "empty" in (await fault() or "")


APPEND_ONLY = ("audit_log", "stock_transactions", "stock_ledger")
CHANGES = ("update {} set user_id = 1", "delete from {}", "truncate {} cascade")


async def test_migrating_with_a_release_that_was_rolled_back_leaves_a_later_schema_alone(cluster: Cluster) -> None:
    await as_owner(cluster, "create database migrated_ahead")
    url = cluster.owner_url("migrated_ahead")
    await schema.migrate(url)
    await as_owner(cluster, "update alembic_version set version_num = '9999'", database="migrated_ahead")
    await schema.migrate(url)
    still = "do $$ begin assert (select version_num from alembic_version) = '9999'; end $$"
    await as_owner(cluster, still, database="migrated_ahead")


async def test_migration_that_an_export_keeps_waiting_does_not_lock_users_meanwhile(cluster: Cluster) -> None:
    """It held the locks of its first steps for as long as the export ran, and no request could be authenticated."""
    name = "migrated_beside_export"
    await as_owner(cluster, f"create database {name}")
    url = cluster.owner_url(name)
    await migrate_to_before(url, "0010")
    async with connected(url) as export, connected(url) as request:
        reading = export.transaction()
        await reading.start()
        await export.execute("select from items")
        with pytest.raises(errors.Unavailable, match="Nothing was migrated"):
            await schema.migrate(url, lock_seconds=0.2, retry_seconds=0)
        assert await request.fetchval("select version_num from alembic_version") == "0009"

        migration = asyncio.create_task(schema.migrate(url, lock_seconds=0.2))
        await eventually(lambda: request.fetchval("select count(*) from pg_locks where not granted"))
        await request.execute("set statement_timeout = '20s'")
        await request.execute("select from users")
        assert not migration.done()
        await reading.rollback()
        await migration
    behind = "select count(*) from information_schema.columns where table_name = 'users' and column_name = 'email_key'"
    assert await value_of(cluster, behind, name) == 1
    await as_owner(cluster, f"drop database {name}")


@pytest.mark.parametrize("change", CHANGES)
async def test_history_is_append_only_even_for_the_superuser(owner: asyncpg.Connection, change: str) -> None:
    for table in APPEND_ONLY:
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await owner.execute(change.format(table))


@pytest.mark.parametrize("change", CHANGES)
async def test_history_is_append_only_by_grant_for_the_service(owner: asyncpg.Connection, change: str) -> None:
    await owner.execute("set role erp_app")
    for table in APPEND_ONLY:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(change.format(table))
