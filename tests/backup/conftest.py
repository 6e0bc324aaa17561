"""A cluster to copy and destroy, real processes of the service over it, and the commands ops/backup and ops/restore."""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.db.connections import asyncpg_arguments
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import instance
from tests.conftest import make_user, token_of

OPS = Path(__file__).parents[2] / "ops"
ACCOUNT = ["--run-as", "embedded_postgres"] if os.geteuid() == 0 else []
_numbers = itertools.count()


class Result(NamedTuple):
    """How a command ended: its exit status, its line of JSON, and its standard error, which is for people."""

    status: int
    result: dict[str, Any]
    log: str


class Keys(NamedTuple):
    recipients: Path
    identity: Path


@pytest.fixture(scope="session")
def clusters() -> Iterator[Path]:
    """The directory of clusters, which the server's own account can enter."""
    with tempfile.TemporaryDirectory(prefix="erp-backup-tests-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.fixture(scope="session")
def cluster(clusters: Path) -> Iterator[Cluster]:
    with postgres.running(clusters / "original", fsync=False, max_connections=100) as original:
        yield original


def environment(cluster: Cluster, database: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ERP_", "PG"))}
    return {**own, "ERP_MIGRATION_DATABASE_URL": cluster.owner_url(database)}


def run(
    name: str,
    *arguments: object,
    env: dict[str, str],
    before: Callable[[], None] | None = None,
    stdin: str | None = None,
) -> Result:
    """Runs ops/NAME to its end; `stdin` is its standard input."""
    command = [sys.executable, str(OPS / name), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, preexec_fn=before, input=stdin)
    lines = done.stdout.splitlines()
    return Result(done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr)


@pytest.fixture
def backup(cluster: Cluster, database_name: str) -> Callable[..., Result]:
    def backup(*arguments: object, before: Callable[[], None] | None = None, stdin: str | None = None) -> Result:
        words = [*arguments, "--pg-bin", cluster.bin] if arguments[0] != "status" else arguments
        return run("backup", *words, env=environment(cluster, database_name), before=before, stdin=stdin)

    return backup


@pytest.fixture
def restore(cluster: Cluster) -> Callable[..., Result]:
    def restore(*arguments: object) -> Result:
        account = ACCOUNT if arguments[0] == "base" else []
        env = environment(cluster, "postgres")
        del env["ERP_MIGRATION_DATABASE_URL"]
        return run("restore", *arguments, *account, "--pg-bin", cluster.bin, env=env)

    return restore


@pytest.fixture
async def empty(cluster: Cluster) -> AsyncIterator[str]:
    """A database without tables, to restore into."""
    name = f"restored_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(**asyncpg_arguments(cluster.owner_url("postgres")))
    try:
        await connection.execute(f'create database "{name}"')
        yield name
        await connection.execute(f'drop database "{name}" with (force)')
    finally:
        await connection.close()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path / "key")


def make_keys(path: Path) -> Keys:
    done = subprocess.run(["age-keygen", "-o", path], capture_output=True, text=True, check=True)
    public = path.with_suffix(".pub")
    public.write_text(done.stderr.rpartition(" ")[2])
    return Keys(public, path)


class Company(NamedTuple):
    """One instance of the API with a user of it."""

    settings: Settings
    url: str
    token: str
    user_id: int

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=f"{self.url}/api/v1", headers=headers, timeout=20) as client:
            yield client


@pytest.fixture
async def company(settings: Settings, database: Database, tmp_path: Path) -> AsyncIterator[Company]:
    """One instance of the API in a process of its own, with items and a location to trade with."""
    user_id = await make_user(database, Role.SUPER_ADMIN)
    async with instance(settings, tmp_path / "serve.log") as process:
        company = Company(settings, process.url, token_of(settings, user_id), user_id)
        async with company.client() as client:
            for number in range(5):
                item = {"sku": f"ITEM-{number}", "name": f"Item {number}", "unit": "PCS"}
                assert (await client.post("/inventory/items", json=item)).status_code == 201
            location = {"code": "SHOP", "name": "The shop", "location_type": "WAREHOUSE"}
            assert (await client.post("/inventory/locations", json=location)).status_code == 201
        yield company


async def receive(client: httpx.AsyncClient, *, item: int = 0, quantity: object = 1, reference: str = "") -> None:
    movement = {"sku": f"ITEM-{item}", "location": "SHOP", "quantity": quantity, "unit_cost": "3.15"}
    response = await client.post("/inventory/stock/in", json={**movement, "reference_no": reference or "R"})
    assert response.status_code == 201, response.text


@contextlib.asynccontextmanager
async def trade(company: Company) -> AsyncIterator[list[int]]:
    """Four people who receive and sell without a pause; the list holds the number of acknowledged postings."""
    counted = [0]
    stop = asyncio.Event()

    async def person(number: int) -> None:
        async with company.client() as client:
            while not stop.is_set():
                await receive(client, item=number, quantity=3)
                sold = {"sku": f"ITEM-{number}", "location": "SHOP", "quantity": "1.5", "reference_no": "S"}
                assert (await client.post("/inventory/stock/out", json=sold)).status_code == 201
                counted[0] += 2

    people = [asyncio.create_task(person(number)) for number in range(4)]
    try:
        yield counted
    finally:
        stop.set()
        await asyncio.gather(*people)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**asyncpg_arguments(url))
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.contextmanager
def archived_wal(cluster: Cluster, database: str, directory: Path, *more: object) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `ops/backup wal`: from its first report to its orderly end."""
    command = [sys.executable, str(OPS / "backup"), "wal", "--to", str(directory), "--every", "0.2"]
    command += ["--pg-bin", str(cluster.bin), *(str(word) for word in more)]
    with subprocess.Popen(command, env=environment(cluster, database), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            assert first["ok"], first
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0
