"""Each kind of outage at each part that must survive it: none is forgotten, whatever the driver calls it.

asyncpg.InternalClientError, which is a kind of no other error of asyncpg, was missing from six of these parts."""

import asyncio
import errno
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from litestar import Litestar
from litestar.di import NamedDependency
from procrastinate import exceptions, jobs
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from erp_service import errors
from erp_service.access.scopes import Keys
from erp_service.commands.database import exit_on_error
from erp_service.db import connections, outages
from erp_service.db.backoff import Backoff
from erp_service.db.connections import connect, connect_for_sessions, wait_until_up
from erp_service.db.engine import Database
from erp_service.db.pool import Pool
from erp_service.db.replicas.hosts import Standby, Standbys
from erp_service.db.replicas.leader_watch import LeaderWatch
from erp_service.db.replicas.replica import Replica, ReplicaUnavailable
from erp_service.db.servers.addresses import parse
from erp_service.db.sessions import ReadSession, Row, Session
from erp_service.exports import maintenance
from erp_service.exports.jobs.retries import Outages
from erp_service.exports.run.connection import SnapshotConnection
from erp_service.exports.storage.base import FileKey
from erp_service.exports.storage.postgres import PostgresStore
from erp_service.observability import telemetry
from erp_service.operations.cluster_metrics import ClusterMetrics
from erp_service.operations.readiness import Readiness
from erp_service.queue import background, fencing, lifeline
from erp_service.queue import outages as queue_outages
from erp_service.queue.lifeline import Lifeline
from erp_service.queue.rescue import Timeouts
from erp_service.registry.background import BackgroundStep
from erp_service.registry.figures import FigureReader
from erp_service.registry.services import ServiceSet
from erp_service.standalone.postgres import Cluster
from erp_service.web import rate_limits
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, get
from tests.db.failures import (
    ANY,
    FAULTS,
    LOST,
    PSYCOPG,
    STATES,
    UNAVAILABLE,
    Failure,
    as_a_session_raises,
    each,
    inject,
    of_state,
    psycopg_of_state,
)
from tests.support.apps import services_of
from tests.support.clients import client_of
from tests.support.waiting import eventually

KEY = FileKey(uuid4(), 1, "csv")
SERVER = {"08003", "08006", "53100", "53200", "53300", "57P01", "57P03", *LOST}
"""Failures that would befall other statements on the same server too."""

raised: list[Exception] = []


@get("/test/outages/session", role=PUBLIC, scope=Keys.NONE)
async def in_a_session(read: NamedDependency[ReadSession]) -> ApiResponse[int | None]:
    return ApiResponse(await read.scalar(text("select 1")))


@get("/test/outages/bare", role=PUBLIC, scope=Keys.NONE)
async def bare() -> ApiResponse[None]:
    raise raised[0]


class Silent:
    """A store that takes everything."""

    async def delete(self, key: FileKey) -> None:
        assert key == KEY


class Broken:
    """A connection of asyncpg that cannot be closed in order."""

    def __init__(self, failure: Failure) -> None:
        self.failure, self.terminated = failure, False

    def get_server_pid(self) -> int:
        return 1

    async def close(self, *, timeout: float) -> None:
        raise self.failure()

    def terminate(self) -> None:
        self.terminated = True


class Enough(BaseException):
    """Ends a loop that nothing else ends."""


@pytest.fixture(scope="module")
async def anyone(shared_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    shared_app.register(in_a_session)
    shared_app.register(bare)
    async with client_of(shared_app) as client:
        yield client


@pytest.fixture
def shared(shared_app: Litestar) -> Database:
    """Of the app that many tests share: what they inject leaves nothing behind."""
    return services_of(shared_app).database


@each(UNAVAILABLE)
async def test_it_is_told_from_a_fault(shared: Database, failure: Failure) -> None:
    assert outages.is_unavailable(failure())
    assert outages.is_unavailable(await as_a_session_raises(shared, failure))


@pytest.mark.parametrize("state", FAULTS)
async def test_a_fault_is_no_outage(shared: Database, state: str) -> None:
    failure = of_state(FAULTS[state])
    wrapped = await as_a_session_raises(shared, failure)
    assert not outages.is_unavailable(failure())
    assert not outages.is_unavailable(wrapped)
    assert outages.sqlstate_of(wrapped) == outages.sqlstate_of(failure()) == state
    assert not outages.is_unavailable(FileNotFoundError()), "it may be a file's"


@pytest.mark.parametrize("state", STATES)
def test_the_sqlstate_is_found_however_deep_it_is_wrapped(state: str) -> None:
    """As Alembic's connection raises it."""
    wrapped = DBAPIError("select 1", {}, of_state(STATES[state])())
    assert outages.sqlstate_of(wrapped) == outages.sqlstate_of(DBAPIError("select 1", {}, wrapped)) == state


def test_a_connection_that_ends_with_a_message_of_the_server_is_lost() -> None:
    """asyncpg names that message as the cause, whatever it says."""
    lost = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    lost.__cause__ = asyncpg.InternalServerError("PANIC")
    assert outages.sqlstate_of(lost) == "08003"
    assert outages.is_unavailable(lost)


@each(UNAVAILABLE)
async def test_a_request_is_answered_503(
    anyone: httpx.AsyncClient, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised[:] = [failure()]
    answers = [await anyone.get("/test/outages/bare")]
    inject(monkeypatch, failure)
    answers.append(await anyone.get("/test/outages/session"))
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable"), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["retry_after"] == int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("state", "status"),
    [("22003", 422), ("23505", 409), ("55P03", 503), ("25P02", 500), ("42P01", 500), ("XX000", 500)],
)
async def test_a_request_that_meets_a_fault_is_not_answered_as_an_outage(
    anyone: httpx.AsyncClient, state: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, of_state(FAULTS[state]))
    assert (await anyone.get("/test/outages/session")).status_code == status


@each(UNAVAILABLE)
async def test_an_instance_is_not_ready_and_says_so(
    shared: Database, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, failure)
    assert await Readiness(shared, []).fault() == "The database does not answer."


@each(ANY)
async def test_readiness_says_no_and_raises_nothing(
    shared: Database, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, failure)
    assert await Readiness(shared, []).fault() is not None


@each(ANY)
async def test_metrics_say_that_the_database_is_down(
    shared: Database, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def one(db: Session) -> Mapping[str, float]:
        return {"one": float(await db.scalar(text("select 1")))}

    metrics = ClusterMetrics(shared, [FigureReader({"one": "One"}, one)], fresh_seconds=0)

    def figures() -> dict[str, float]:
        families: list[GaugeMetricFamily] = list(metrics.collect())
        return {family.name: family.samples[0].value for family in families}

    await metrics.refresh()
    assert figures() == {"erp_database_up": 1, "one": 1}
    inject(monkeypatch, failure)
    await metrics.refresh()
    assert figures() == {"erp_database_up": 0}


@each(ANY)
async def test_an_attempt_that_cannot_be_given_back_refuses_nobody_and_is_counted(
    shared: Database, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> float:
        return telemetry.REGISTRY.get_sample_value("erp_limits_failed_open_total", {"limit": "outage"}) or 0

    before = count()
    inject(monkeypatch, failure)
    await rate_limits.give_back(shared, "outage", keys=["k"], forget="k")
    assert count() == before + 1


@each(ANY)
async def test_a_limit_that_guards_fails_closed(
    shared: Database, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, failure)
    with pytest.raises(errors.Unavailable) as refused:
        await rate_limits.take(shared, "outage", "k", most=1, seconds=60)
    assert refused.value.headers["Retry-After"] == "2"


@each(ANY)
async def test_a_deleted_export_whose_file_stays_for_now_is_no_fault(
    shared: Database, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, failure)
    await maintenance.remove_deleted(shared, Silent(), KEY)  # type: ignore[arg-type]


@each(ANY)
async def test_a_copy_whose_connection_does_not_close_in_order_is_terminated(failure: Failure) -> None:
    connection = Broken(failure)
    await SnapshotConnection(connection, "").close()
    assert connection.terminated


@each(UNAVAILABLE)
async def test_the_store_in_the_database_is_unreachable(
    shared: Database, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, failure)
    with pytest.raises(OSError) as caught:
        await PostgresStore(shared).size(KEY)
    full = isinstance(failure(), asyncpg.DiskFullError)
    assert caught.value.errno == errno.ENOSPC if full else isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("state", FAULTS)
async def test_a_fault_of_the_store_in_the_database_is_ours(
    shared: Database, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, of_state(FAULTS[state]))
    with pytest.raises(FAULTS[state]):
        await PostgresStore(shared).size(KEY)


@pytest.mark.parametrize("name", ANY)
async def test_a_read_goes_from_the_replica_to_the_primary(
    cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but a statement that ran into its time limit, which would take as long on the primary."""
    row = {
        "at": datetime.now(UTC),
        "position": 1,
        "file": "000000010000000000000001",
        "system": 1,
        "database": 1,
        "recovering": True,
        "timelines": [1],
        "replayed_at": None,
    }

    async def says(*_: object, **__: object) -> Mapping[str, Any]:
        return row

    async def read(connection: asyncpg.Connection) -> Any:
        return await ReadSession(connection).scalar(text("select 1"))

    monkeypatch.setattr(asyncpg.Connection, "fetchrow", says)
    url = cluster.owner_url("postgres")

    async def connect() -> asyncpg.Connection:
        return await connect_for_sessions(url, leader=False, record_class=Row)

    def pool() -> Pool:
        return Pool(connect, size=2, wait_seconds=1)

    leader = LeaderWatch(connect)
    standbys = Standbys(parse(url).hosts, lambda host: Standby(host, pool(), pool()))
    replica = Replica(standbys, leader, slots=1, alone_seconds=0)
    try:
        await eventually(lambda: in_use(replica))
        assert await replica.reading(read) == 1
        inject(monkeypatch, ANY[name])
        with pytest.raises(asyncpg.QueryCanceledError if name == "57014" else ReplicaUnavailable):
            await replica.reading(read)
        assert replica.now().in_use == (name not in {*SERVER, "XX000", "no route"})
    finally:
        await replica.close()
        await leader.close()


async def in_use(replica: Replica) -> bool:
    return replica.now().in_use


@each(PSYCOPG)
async def test_a_worker_that_ends_a_job_tries_again(failure: Failure) -> None:
    tries = 0

    async def ask() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise exceptions.ConnectorException from failure()
        return "done"

    assert await fencing._through_outages(ask, "the end is not written", pause=0) == "done"


async def test_a_worker_does_not_try_again_what_is_wrong() -> None:
    async def ask() -> None:
        raise exceptions.ConnectorException from psycopg_of_state("42P01")()

    with pytest.raises(exceptions.ConnectorException):
        await fencing._through_outages(ask, "the end is not written")


@each(UNAVAILABLE)
def test_the_queue_knows_what_asyncpg_raises_too(failure: Failure) -> None:
    assert queue_outages.is_unavailable(failure())


@each(ANY)
async def test_the_background_loop_of_a_worker_goes_on(shared: Database, failure: Failure) -> None:
    failures = [failure(), await as_a_session_raises(shared, failure)]

    async def step(_: ServiceSet) -> None:
        if failures:
            raise failures.pop()
        raise Enough

    with pytest.raises(Enough):
        await background.run_background(ServiceSet(), [BackgroundStep("injected", step)], pause=0)
    assert failures == []


@each(ANY)
async def test_the_lifeline_of_a_worker_connects_again(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [failure(), failure()]

    async def connected(*_: object, **__: object) -> asyncpg.Connection:
        if failures:
            raise failures.pop()
        raise Enough

    async def nothing() -> None: ...

    monkeypatch.setattr(lifeline, "connect", connected)
    worker = Lifeline("", Timeouts(), own_runs=set, stop_runs=lambda *_, **__: None, on_connect=nothing)
    with pytest.raises(Enough):
        await worker.hold(1)
    assert failures == []


@each(ANY)
async def test_a_command_ends_with_one_sentence(
    shared: Database, failure: Failure, capsys: pytest.CaptureFixture[str]
) -> None:
    for exc in (failure(), await as_a_session_raises(shared, failure)):
        with pytest.raises(SystemExit) as ended, exit_on_error():
            raise exc
        assert ended.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith("erp: the database cannot be used: ")
        assert said.count("\n") == 1
        assert not said.endswith(": \n")


@each(UNAVAILABLE)
async def test_an_export_tries_again(shared: Database, failure: Failure) -> None:
    job = jobs.Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t", attempts=1)
    for exc in (failure(), await as_a_session_raises(shared, failure)):
        assert Outages().get_retry_decision(exception=exc, job=job) is not None


@pytest.mark.parametrize("state", FAULTS)
async def test_an_export_does_not_try_again_what_is_wrong(shared: Database, state: str) -> None:
    job = jobs.Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t", attempts=1)
    exc = await as_a_session_raises(shared, of_state(FAULTS[state]))
    assert Outages().get_retry_decision(exception=exc, job=job) is None


@each(ANY)
async def test_a_failed_rollback_hides_no_error(
    shared: Database, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollback = asyncpg.transaction.Transaction.rollback

    async def fail(self: asyncpg.transaction.Transaction) -> None:
        await rollback(self)
        raise failure()

    async def broken_off() -> None:
        async with shared.write() as db:
            await db.execute(text("select 1"))
            monkeypatch.setattr(asyncpg.transaction.Transaction, "rollback", fail)
            raise LookupError("why it came to this")

    with pytest.raises(LookupError, match="why it came to this"):
        await broken_off()


NO_SERVER: dict[str, Failure] = {
    "name": lambda: OSError(-2, "Name or service not known"),
    "socket": lambda: FileNotFoundError(errno.ENOENT, "No such file or directory"),
    **{name: failure for name, failure in LOST.items() if name != "no connection in the pool"},
}


@each(NO_SERVER)
async def test_a_connection_that_reaches_no_server_fails_as_a_connection(
    failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing socket must not be taken for a missing file."""

    async def fail(**_: object) -> asyncpg.Connection:
        raise failure()

    monkeypatch.setattr(asyncpg, "connect", fail)
    with pytest.raises(ConnectionError):
        await connect("postgresql://erp@localhost/erp", name="erp test")


@each(NO_SERVER | {state: of_state(kind) for state, kind in STATES.items()})
async def test_a_process_that_starts_waits_for_the_server(
    failure: Failure, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, failures = asyncpg.connect, [failure(), failure()]

    async def fail_twice(**arguments: Any) -> asyncpg.Connection:
        if failures:
            raise failures.pop()
        return await really(**arguments)

    monkeypatch.setattr(asyncpg, "connect", fail_twice)
    monkeypatch.setattr(connections, "Backoff", lambda *_: Backoff(0, 0))
    await wait_until_up(cluster.owner_url("postgres"), seconds=5)
    assert failures == []


async def test_a_process_that_starts_does_not_wait_for_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(**_: object) -> asyncpg.Connection:
        raise asyncpg.InvalidPasswordError("password authentication failed")

    monkeypatch.setattr(asyncpg, "connect", refuse)
    async with asyncio.timeout(2):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await wait_until_up("postgresql://erp@localhost/erp", seconds=60)
