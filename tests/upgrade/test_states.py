"""What the command refuses, and its way back from each state."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from erp_service.db import migrate as schema
from tests.support.databases import as_owner, connected, value_of
from tests.upgrade.servers import Result, Servers, owner_of

ADD = "insert into items (sku, name, unit) values ('{}', 'A thing', 'PCS')"
COUNT = "select count(*) from items"

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(servers: Servers, name: str) -> Run:
    async def run(command: str, *more: object) -> Result:
        return await asyncio.to_thread(servers.upgrade, command, name, *more)

    return run


@pytest.fixture
async def following(servers: Servers, name: str, run: Run) -> None:
    """Two items, and a new database that follows. Its schema was made by hand."""
    for sku in "AB":
        await as_owner(servers.old, ADD.format(sku), database=name)
    asked = await run("follow", "--erp", "")
    assert "run erp migrate" in asked.result["error"]
    await schema.migrate(servers.of_owner(servers.new, name))
    followed = await run("follow", "--erp", "")
    assert followed.status == 0, followed.log
    assert await value_of(servers.new, COUNT, name) == 2


async def refuses_writes(servers: Servers, name: str) -> bool:
    try:
        await as_owner(servers.old, "update items set reorder_point = 1 where false", database=name)
    except asyncpg.ReadOnlySQLTransactionError:
        return True
    return False


@pytest.mark.usefixtures("following")
async def test_switch_that_nobody_used_is_taken_back_and_the_new_one_follows_again(
    servers: Servers, name: str, run: Run
) -> None:
    assert (await run("switch")).status == 0
    assert await refuses_writes(servers, name)
    assert (await run("switch")).status == 1
    assert (await run("cancel")).status == 1
    assert (await run("back")).result["state"] == "FOLLOWING"
    await as_owner(servers.old, ADD.format("C"), database=name)
    assert (await run("finish")).status == 1
    assert (await run("switch")).status == 0
    assert await value_of(servers.new, COUNT, name) == 3
    # an id that the old database had not given
    await as_owner(servers.new, ADD.format("D"), database=name)
    assert await value_of(servers.new, "select count(distinct id) from items", name) == 4


@pytest.mark.usefixtures("following")
async def test_way_back_is_refused_once_the_new_one_was_written_to(servers: Servers, name: str, run: Run) -> None:
    assert (await run("switch")).status == 0
    await as_owner(servers.new, ADD.format("C"), database=name)

    refused = await run("back")
    assert refused.status == 1
    assert "items 1" in refused.result["error"]
    await as_owner(servers.new, ADD.format("D"), database=name)
    assert await refuses_writes(servers, name)

    given_up = await run("back", "--lose-writes")
    assert (given_up.status, given_up.result["state"]) == (0, "NONE"), given_up.log
    await as_owner(servers.old, ADD.format("E"), database=name)
    assert (await run("follow", "--erp", "")).status == 0
    assert await value_of(servers.new, "select string_agg(sku, '' order by sku) from items", name) == "ABE"


@pytest.mark.usefixtures("following")
async def test_switch_that_finds_a_difference_opens_the_old_one_again(servers: Servers, name: str, run: Run) -> None:
    await as_owner(servers.new, "delete from items where sku = 'A'", database=name)
    failed = await run("switch")
    assert failed.status == 1
    assert "items: 2 rows in the old database, 1 in the new one" in failed.result["error"]
    assert not await refuses_writes(servers, name)
    await as_owner(servers.new, "update items set name = 'Another' where sku = 'B'", database=name)
    await as_owner(servers.old, "delete from items where sku = 'A'", database=name)
    failed = await run("switch")
    assert "items: 1 rows in both, with another content" in failed.result["error"]
    assert (await run("status")).result["state"] == "FOLLOWING"


@pytest.mark.usefixtures("following")
@pytest.mark.parametrize("then", ["switch", "back", "cancel"])
async def test_switch_that_was_killed_is_ended_either_way(servers: Servers, name: str, run: Run, then: str) -> None:
    # all that it had done
    await as_owner(servers.old, f'alter database "{name}" set default_transaction_read_only = on')
    assert (await run("status")).result["state"] == "PAUSED"
    done = await run(then)
    assert done.status == 0, done.log
    assert await refuses_writes(servers, name) == (then == "switch")


@pytest.mark.usefixtures("following")
async def test_cancel_leaves_nothing_in_the_old_database(servers: Servers, name: str, run: Run) -> None:
    for _ in range(2):
        assert (await run("cancel")).status == 0
        assert await value_of(servers.old, "select count(*) from pg_publication", name) == 0
        assert await value_of(servers.old, "select count(*) from pg_replication_slots") == 0
    assert (await run("switch")).status == 1
    assert not await refuses_writes(servers, name)


@pytest.mark.usefixtures("following")
async def test_second_run_at_the_same_time_is_refused(servers: Servers, name: str, run: Run) -> None:
    async with connected(servers.new.owner_url("postgres")) as db:
        # as a run does that is still at work
        assert await db.fetchval("select pg_try_advisory_lock(hashtext('erp_upgrade'))")
        refused = await run("switch")
        assert "another ops/upgrade-postgres is at work" in refused.result["error"]
        assert (await run("status")).result["state"] == "FOLLOWING"
    assert not await refuses_writes(servers, name)


@pytest.mark.usefixtures("following")
async def test_schema_that_changed_meanwhile_is_refused_before_anybody_waits(
    servers: Servers, name: str, run: Run
) -> None:
    await as_owner(servers.old, "alter table items add column added text", database=name)
    refused = await run("switch")
    assert "items.added is text in the old database and missing in the new one" in refused.result["error"]
    assert not await refuses_writes(servers, name)


async def test_table_without_a_key_and_a_new_database_in_use_are_refused(servers: Servers, name: str, run: Run) -> None:
    assert (await run("check")).status == 0
    await as_owner(servers.old, "create table notes (text text)", database=name)
    refused = await run("follow")
    assert "notes has no primary key or other replica identity" in refused.result["error"]
    await as_owner(servers.old, "drop table notes", database=name)
    assert "run erp migrate" in (await run("follow", "--erp", "")).result["error"]
    # by another role than the owner of the old ones
    await schema.migrate(servers.new.owner_url(name))
    refused = await run("follow", "--erp", "")
    assert f"belongs to {owner_of(name)} in the old database, to postgres in the new one" in refused.result["error"]
    await as_owner(servers.new, f'drop database "{name}"')
    assert "run erp migrate" in (await run("follow", "--erp", "")).result["error"]
    await schema.migrate(servers.of_owner(servers.new, name))
    await as_owner(
        servers.new, "insert into audit_log (action, entity, entity_id) values ('a', 'b', 'c')", database=name
    )
    refused = await run("follow", "--erp", "")
    assert "holds data" in refused.result["error"]
    assert await value_of(servers.new, "select count(*) from audit_log", name) == 1


async def test_roles_of_the_old_server_come_with_their_rights(servers: Servers, name: str, run: Run) -> None:
    role = f"r_{name}"
    await as_owner(
        servers.old,
        f"create role {role} login password 'a-secret' connection limit 3",
        f"grant pg_read_all_data, erp_reader to {role}",
        f"alter role {role} in database \"{name}\" set work_mem = '7MB'",
        f"alter role {role} set search_path = public, pg_temp",
    )
    try:
        followed = await run("follow", "--erp", "")
        assert "run erp migrate" in followed.result["error"]
        kept = "select rolpassword || rolconnlimit || rolcanlogin from pg_authid where rolname = '" + role + "'"
        assert await value_of(servers.new, kept) == await value_of(servers.old, kept)
        member = f"select pg_has_role('{role}', 'pg_read_all_data', 'member')"
        assert await value_of(servers.new, member)
        settings = (
            "select string_agg(array_to_string(setconfig, ' '), ' ' order by setdatabase) from pg_db_role_setting"
            f" where setrole = '{role}'::regrole"
        )
        assert await value_of(servers.new, settings) == "search_path=public, pg_temp work_mem=7MB"
    finally:
        for cluster in servers:
            await as_owner(cluster, f'drop database if exists "{name}" with (force)', f"drop role if exists {role}")
