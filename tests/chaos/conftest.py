"""A server for these tests alone, since they stop it, and the table that the run ends with."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.chaos import proxy as proxies
from tests.chaos.ground import Ground
from tests.chaos.proxy import Proxy
from tests.chaos.record import PROPERTY, Line, Record, fault_of
from tests.support.clusters import temporary_cluster
from tests.support.users import make_user, token_of


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One for each process of xdist, so that a restart affects no other test."""
    with temporary_cluster("chaos") as cluster:
        yield cluster


@pytest.fixture
async def ground(settings: Settings, cluster: Cluster, database: Database, tmp_path: Path) -> AsyncIterator[Ground]:
    token = token_of(settings, await make_user(database, Role.ADMIN))
    async with contextlib.AsyncExitStack() as stack:
        ground = Ground(settings, cluster, token, tmp_path, stack)
        await ground.prepare()
        try:
            yield ground
        finally:
            # a test that failed may have left it stopped
            await ground.start_postgres()


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[Proxy]:
    async with proxies.running(cluster.socket_dir) as proxy:
        yield proxy


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    return Record(request.node.user_properties, fault_of(request.node.name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that mostly wait come first, one in each process: at the end, one process would wait for the other."""
    items.sort(key=lambda item: "outage of 60 s" not in item.name and "test_reconciliation" not in item.nodeid)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    lines = []
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            if "tests/chaos/" not in report.nodeid or (report.when != "call" and outcome == "passed"):
                continue
            told = [Line(*value) for name, value in report.user_properties if name == PROPERTY]
            fault = fault_of(report.nodeid.rpartition("::")[2].partition("@")[0])
            lines += [(*line, outcome) for line in told] or [(fault, None, "-", "-", outcome)]
    if not lines:
        return
    terminalreporter.section("faults")
    form = "{:<78} {:>9} {:>7}  {:<22} {}"
    terminalreporter.write_line(form.format("fault", "seconds", "starts", "effects", "verdict"))
    for fault, seconds, starts, effects, outcome in sorted(lines):
        took = "-" if seconds is None else f"{seconds:.2f}"
        terminalreporter.write_line(form.format(fault, took, starts, effects, outcome))
