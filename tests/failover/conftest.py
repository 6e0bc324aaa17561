"""One cluster and one load for all failovers, which come one after the other, and the table that they end with."""

import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import pytest
from _pytest.terminal import TerminalReporter

from tests.containers.stack import timed
from tests.failover import ground, probe, rows
from tests.failover.clients import Client
from tests.failover.cluster import Cluster
from tests.failover.journal import Journal
from tests.failover.rows import Row

PROJECT = "erpha"
FRONT_SUBNET = "10.89.174.0/24"
CLIENTS = 2
TABLE = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> list[Row]:
    """The figures of the failovers so far."""
    return pytestconfig.stash[TABLE]


@pytest.fixture
def seen(capfd: pytest.CaptureFixture[str], table: list[Row]) -> Callable[[Row], None]:
    """Adds a row to the table, and shows it now, too: all of them take half an hour."""

    def add(row: Row) -> None:
        table.append(row)
        with capfd.disabled():
            sys.stdout.write("\n".join(["", *rows.lines_of(row), ""]))
            sys.stdout.flush()

    return add


@pytest.fixture(scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Up, whole, and with an owner and stock."""
    directory = Path(tmp_path_factory.mktemp("ha"))
    cluster = Cluster(os.environ["ERP_TEST_IMAGE"], directory, project=PROJECT, front_subnet=FRONT_SUBNET)
    await cluster.down()
    try:
        async with timed() as took:
            await cluster.up()
            await cluster.until(cluster.whole, seconds=300)
        cluster.up_seconds = took[0]
        await cluster.make_owner()
        await ground.prepare(cluster)
        await probe.prepare(cluster)
        yield cluster
    finally:
        sys.stderr.write(await cluster.logs() if os.environ.get("ERP_TEST_LOGS") else "")
        await cluster.down()


@pytest.fixture(scope="session")
async def clients(cluster: Cluster, journal: Journal, seed: int) -> AsyncIterator[list[Client]]:
    """They go on from the first failover to the last."""
    keys = [await ground.key_of(cluster, f"client {number}") for number in range(CLIENTS)]
    clients = [Client(cluster.url, key, Random(f"{seed}:{number}"), journal) for number, key in enumerate(keys)]
    for number, client in enumerate(clients):
        client.begin(posters=4, readers=2, reporters=2, exporters=1 if number == 0 else 0)
    yield clients
    for client in clients:
        await client.end()


@pytest.fixture(scope="session")
def journal() -> Journal:
    return Journal()


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ.get("SEED") or 1)


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    if seen := config.stash[TABLE]:
        terminalreporter.section("failovers")
        for line in rows.lines(seen):
            terminalreporter.write_line(line)
