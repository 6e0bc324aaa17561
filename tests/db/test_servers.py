"""Which of several servers a process uses: two real ones, of which one follows the other."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from erp_service.db.connections import connect
from erp_service.db.engine import Database
from erp_service.db.notifications import NotificationListener
from erp_service.db.outages import NotReplicated, is_unavailable
from erp_service.db.servers.addresses import Host
from erp_service.db.servers.leaders import NotLeading
from erp_service.db.servers.opening import CONNECT_SECONDS, Opened, _race
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.support.clusters import temporary_cluster
from tests.support.databases import as_owner, value_of
from tests.support.replication import replica_of
from tests.support.waiting import eventually


class Pair(msgspec.Struct):
    """`second` follows `first`, until it is promoted."""

    first: Cluster
    second: Cluster

    def address(self, *servers: Cluster, target: str | None = None) -> str:
        hosts = ",".join(str(server.socket_dir) for server in servers or (self.first, self.second))
        return f"postgresql://postgres@/erp?host={hosts}" + (f"&target_session_attrs={target}" if target else "")

    async def promote(self) -> None:
        await value_of(self.second, "select pg_promote(true, 60)")


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Pair]:
    with temporary_cluster("pair") as first:
        first.create_database("erp")
        async with replica_of(first, directory / "second") as second:
            yield Pair(first, second)


@pytest.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """For tests that promote nothing."""
    async with running(Path(tmp_path_factory.mktemp("whole"))) as pair:
        yield pair


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """For a test that promotes the second."""
    async with running(tmp_path) as pair:
        yield pair


@contextlib.asynccontextmanager
async def database_of(pair: Pair) -> AsyncIterator[Database]:
    database = Database(Settings(database_url=pair.address()), name="erp test")
    try:
        yield database
    finally:
        await database.close()


WHERE = "show data_directory"


async def place(server: Cluster) -> object:
    return await value_of(server, WHERE)


@contextlib.contextmanager
def silent_server(directory: Path) -> Iterator[Path]:
    """A directory with a socket that accepts and says nothing, as a host that hangs."""
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / ".s.PGSQL.5432"))
        listener.listen()
        yield directory


async def test_the_leader_is_found_wherever_it_stands_in_the_address(whole: Pair) -> None:
    for servers in ((whole.first, whole.second), (whole.second, whole.first)):
        connection = await connect(whole.address(*servers), name="test")
        assert await connection.fetchval(WHERE) == await place(whole.first)
        await connection.close()


async def test_a_standby_is_never_taken_for_a_primary(whole: Pair) -> None:
    """As gpustack issue #6105: a standby answers every ping."""
    with pytest.raises(ConnectionError, match="it is a standby"):
        await connect(whole.address(whole.second), name="test")


async def test_read_write_refuses_a_primary_that_refuses_writes(whole: Pair) -> None:
    await as_owner(whole.first, "alter database erp set default_transaction_read_only = on")
    with pytest.raises(NotLeading, match="it refuses writes"):
        await connect(whole.address(whole.first, target="read-write"), name="test")
    # without that attribute, what only reads goes on, as during an upgrade of Postgres
    connection = await connect(whole.address(), name="test")
    assert await connection.fetchval(WHERE) == await place(whole.first)
    await connection.close()
    await as_owner(whole.first, "alter database erp reset default_transaction_read_only")


async def test_a_host_that_is_silent_does_not_hold_up_the_others(whole: Pair, tmp_path: Path) -> None:
    with silent_server(tmp_path / "silent") as silent:
        url = f"postgresql://postgres@/erp?host={silent},{whole.first.socket_dir}"
        async with asyncio.timeout(CONNECT_SECONDS / 2):
            connection = await connect(url, name="test")
        await connection.close()


async def test_if_no_host_leads_the_error_says_of_each_why(whole: Pair, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    url = f"postgresql://postgres@/erp?host={whole.second.socket_dir},{nowhere}"
    with pytest.raises(ConnectionError) as failed:
        await connect(url, name="test")
    assert f"{whole.second.socket_dir}:5432: it is a standby" in str(failed.value)
    assert f"{nowhere}:5432: " in str(failed.value)


async def test_refusal_that_time_does_not_change_is_not_taken_for_an_outage(whole: Pair) -> None:
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await connect(whole.address().replace("postgres@", "nobody@"), name="test")


async def test_an_idle_connection_to_a_demoted_server_is_not_met_by_a_second_request(whole: Pair) -> None:
    async with database_of(whole) as database:
        async with database.read() as first, database.read() as second:
            pass
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with database.write() as db:
                await db.run("set transaction read only; create table no (n int)")
        assert first.driver.is_closed()
        assert second.driver.is_closed()


async def test_after_a_failover_the_pool_leads_to_the_new_primary(pair: Pair) -> None:
    async with database_of(pair) as database:
        await write(database, "create table done (n int)")

        async def followed() -> bool:
            return await value_of(pair.second, "select to_regclass('done')", "erp") is not None

        await eventually(followed)
        pair.first.stop("immediate")
        await pair.promote()

        async def written() -> bool:
            with contextlib.suppress(ConnectionError):
                await write(database, "insert into done values (1)")
                return True
            return False

        await eventually(written)
    assert await value_of(pair.second, "select count(*) from done", "erp") == 1


async def test_two_leaders_whoever_has_met_the_newer_leaves_the_older_at_once(pair: Pair) -> None:
    """The old primary was cut off and leads on, with its connections open: split brain."""
    listener = NotificationListener(pair.address(pair.first))
    listener.subscribe("news", lambda _: None)

    async def listens() -> bool:
        return listener.is_current

    async def is_deaf() -> bool:
        return not listener.is_current

    async with listener.listening(), database_of(pair) as database:
        await eventually(listens)
        outside = await connect(pair.address(), name="test")
        async with connected_by(database) as writing:
            await pair.promote()
            newer = await connect(pair.address(pair.second), name="test")
            assert writing.is_closed(), "an open transaction"
            assert outside.is_closed(), "what COPYs, or holds a lock"
        await eventually(is_deaf)
        with pytest.raises(NotLeading, match="it leads on timeline 1, and another on timeline 2"):
            await connect(pair.address(pair.first), name="test")
        async with database.write() as db:
            assert await db.fetch_value(WHERE) == await place(pair.second)
        await newer.close()


@contextlib.asynccontextmanager
async def connected_by(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction that will not be able to commit."""
    with contextlib.suppress(asyncpg.InterfaceError):
        async with database.write() as db:
            await db.run("create table lost (n int)")
            yield db.driver


async def test_connection_that_is_terminated_between_two_steps_of_a_statement_is_a_lost_one(whole: Pair) -> None:
    """After it was prepared and before it is bound, asyncpg has an AttributeError for that."""
    connection = await connect(whole.address(), name="test")
    get_statement = connection._get_statement

    async def terminated_meanwhile(*arguments: object, **options: object) -> object:
        statement = await get_statement(*arguments, **options)
        connection.terminate()
        return statement

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connection), "_get_statement", staticmethod(terminated_meanwhile))
        with pytest.raises(asyncpg.ConnectionDoesNotExistError) as failed:
            await connection.fetchval("select 1")
    assert is_unavailable(failed.value)


async def test_commit_that_no_standby_confirmed_is_no_acknowledgement(pair: Pair) -> None:
    """What is cancelled while it waits for its standby is committed all the same, and Postgres answers COMMIT."""
    async with database_of(pair) as database:
        await write(database, "create table done (n int)")
        await as_owner(pair.first, "alter system set synchronous_standby_names = 'none'", "select pg_reload_conf()")
        await eventually(lambda: a_commit_waits(pair.first))
        async with cancelled_while_it_waits(pair.first):
            with pytest.raises(NotReplicated):
                await write(database, "insert into done values (1)")
        # it is there, so whoever asks again must not be told of it before a standby has it
        assert await value_of(pair.first, "select count(*) from done", "erp") == 1
        async with cancelled_while_it_waits(pair.first):
            with pytest.raises(NotReplicated):
                await confirm(database)
        await as_owner(pair.first, "alter system set synchronous_standby_names = '*'", "select pg_reload_conf()")
        await confirm(database)

        async def replayed() -> bool:
            return await value_of(pair.second, "select count(*) from done", "erp") == 1

        await eventually(replayed)


CANCEL = "select coalesce(bool_or(pg_cancel_backend(pid)), false) from pg_stat_activity where wait_event = 'SyncRep'"


async def a_commit_waits(server: Cluster) -> bool:
    """Whether the setting that was reloaded has reached all processes of the server."""
    writing = asyncio.create_task(as_owner(server, "select pg_logical_emit_message(true, 'test', '')"))
    await asyncio.wait([writing], timeout=0.5)
    waits = not writing.done()
    while not writing.done():
        await value_of(server, CANCEL)
        await asyncio.wait([writing], timeout=0.05)
    await writing
    return waits


@contextlib.asynccontextmanager
async def cancelled_while_it_waits(server: Cluster) -> AsyncIterator[None]:
    async def cancelled() -> bool:
        return await value_of(server, CANCEL) is True

    task = asyncio.create_task(eventually(cancelled))
    yield
    await task


async def write(database: Database, statement: str) -> None:
    async with database.write() as db:
        await db.run(statement)


async def confirm(database: Database) -> None:
    async with database.write() as db:
        await db.commit_replicated()


async def test_standby_that_is_promoted_while_another_host_is_silent_is_found_by_the_same_attempt(whole: Pair) -> None:
    """An attempt that has asked it once would else wait for the silent one until its time is over."""
    silent, promoted = Host("silent", 5432), Host("promoted", 5432)
    asked: list[Host] = []

    async def open_one(host: Host) -> Opened:
        asked.append(host)
        if host == silent:
            await asyncio.Event().wait()
        if asked.count(promoted) == 1:
            raise NotLeading("it is a standby")
        return Opened(await connect(whole.address(), name="test"), host)

    async with asyncio.timeout(CONNECT_SECONDS - 1):
        connection, host = await _race([silent, promoted], open_one)
    assert (host, asked) == (promoted, [silent, promoted, promoted])
    await connection.close()
