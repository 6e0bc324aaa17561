"""A server for these tests alone, since they stop it, and the table that they end with."""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from _pytest.terminal import TerminalReporter

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.chaos import proxy as proxies
from tests.chaos.ground import Ground
from tests.chaos.proxy import Proxy
from tests.conftest import make_user, token_of

PROPERTY = "chaos"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One for each process of xdist, so that no restart meets another test."""
    with (
        tempfile.TemporaryDirectory(prefix="erp-chaos-") as directory,
        postgres.running(Path(directory), fsync=False, max_connections=200) as running,
    ):
        yield running


@pytest.fixture
async def ground(settings: Settings, cluster: Cluster, database: Database, tmp_path: Path) -> AsyncIterator[Ground]:
    token = token_of(settings, await make_user(database, Role.ADMIN))
    async with contextlib.AsyncExitStack() as stack:
        ground = Ground(settings, cluster, token, tmp_path, stack)
        await ground.prepare()
        try:
            yield ground
        finally:
            # whatever a test that failed left stopped
            await ground.start_postgres()


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[Proxy]:
    async with proxies.running(cluster.socket_dir) as proxy:
        yield proxy


class Line(NamedTuple):
    """One line of the table: seconds from the fault to the recovery, how often a worker began, what came of it."""

    fault: str
    seconds: float | None
    starts: str
    effects: str


class Record:
    """For a test to say what it saw."""

    def __init__(self, properties: list[tuple[str, Any]], fault: str) -> None:
        self._properties, self._fault = properties, fault

    def __call__(self, *, seconds: float | None, starts: int | str, effects: str) -> None:
        self._properties.append((PROPERTY, list(Line(self._fault, seconds, str(starts), effects))))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    return Record(request.node.user_properties, _fault(request.node.name))


def _fault(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What mostly waits comes first, one of it in each process: at the end it would keep the other idle."""
    items.sort(key=lambda item: "outage of 60 s" not in item.name and "test_reconciliation" not in item.nodeid)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    lines = []
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            if "tests/chaos/" not in report.nodeid or (report.when != "call" and outcome == "passed"):
                continue
            told = [Line(*value) for name, value in report.user_properties if name == PROPERTY]
            fault = _fault(report.nodeid.rpartition("::")[2].partition("@")[0])
            lines += [(*line, outcome) for line in told] or [(fault, None, "-", "-", outcome)]
    if not lines:
        return
    terminalreporter.section("faults")
    form = "{:<78} {:>9} {:>7}  {:<22} {}"
    terminalreporter.write_line(form.format("fault", "seconds", "starts", "effects", "verdict"))
    for fault, seconds, starts, effects, outcome in sorted(lines):
        took = "-" if seconds is None else f"{seconds:.2f}"
        terminalreporter.write_line(form.format(fault, took, starts, effects, outcome))
