"""A cluster of its own to copy and destroy, the service's real processes over it, and ops/backup and ops/restore."""

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


class Ran(NamedTuple):
    """How a command ended: its status, its line of JSON, and what it said to people."""

    status: int
    result: dict[str, Any]
    said: str


class Keys(NamedTuple):
    recipients: Path
    identity: Path


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory that the server's own user can pass through."""
    with tempfile.TemporaryDirectory(prefix="erp-backup-tests-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.fixture(scope="session")
def cluster(place: Path) -> Iterator[Cluster]:
    with postgres.running(place / "original", fsync=False, max_connections=100) as running:
        yield running


def environment(cluster: Cluster, database: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ERP_", "PG"))}
    return {**kept, "ERP_MIGRATION_DATABASE_URL": cluster.owner_url(database)}


def ran(
    name: str,
    *arguments: object,
    env: dict[str, str],
    before: Callable[[], None] | None = None,
    given: str | None = None,
) -> Ran:
    """ops/NAME, to its end; `given` is what it reads from its standard input."""
    command = [sys.executable, str(OPS / name), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, preexec_fn=before, input=given)
    lines = done.stdout.splitlines()
    return Ran(done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr)


@pytest.fixture
def backup(cluster: Cluster, database_name: str) -> Callable[..., Ran]:
    def backup(*arguments: object, before: Callable[[], None] | None = None, given: str | None = None) -> Ran:
        words = [*arguments, "--pg-bin", cluster.bin] if arguments[0] != "status" else arguments
        return ran("backup", *words, env=environment(cluster, database_name), before=before, given=given)

    return backup


@pytest.fixture
def restore(cluster: Cluster) -> Callable[..., Ran]:
    def restore(*arguments: object) -> Ran:
        account = ACCOUNT if arguments[0] == "base" else []
        env = environment(cluster, "postgres")
        del env["ERP_MIGRATION_DATABASE_URL"]
        return ran("restore", *arguments, *account, "--pg-bin", cluster.bin, env=env)

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
    return made_keys(tmp_path / "key")


def made_keys(path: Path) -> Keys:
    said = subprocess.run(["age-keygen", "-o", path], capture_output=True, text=True, check=True)
    public = path.with_suffix(".pub")
    public.write_text(said.stderr.rpartition(" ")[2])
    return Keys(public, path)


class Company(NamedTuple):
    """A small one at work: who asks it, and where it answers."""

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
    """One instance of the API in a process of its own, with items and places to trade with."""
    user_id = await make_user(database, Role.SUPER_ADMIN)
    async with instance(settings, tmp_path / "serve.log") as process:
        company = Company(settings, process.url, token_of(settings, user_id), user_id)
        async with company.client() as client:
            for number in range(5):
                item = {"sku": f"ITEM-{number}", "name": f"Item {number}", "unit": "PCS"}
                assert (await client.post("/inventory/items", json=item)).status_code == 201
            place = {"code": "SHOP", "name": "The shop", "location_type": "WAREHOUSE"}
            assert (await client.post("/inventory/locations", json=place)).status_code == 201
        yield company


async def receive(client: httpx.AsyncClient, *, item: int = 0, quantity: object = 1, reference: str = "") -> None:
    movement = {"sku": f"ITEM-{item}", "location": "SHOP", "quantity": quantity, "unit_cost": "3.15"}
    answer = await client.post("/inventory/stock/in", json={**movement, "reference_no": reference or "R"})
    assert answer.status_code == 201, answer.text


@contextlib.asynccontextmanager
async def trade(company: Company) -> AsyncIterator[list[int]]:
    """Four people who receive and sell without a pause; the list counts what was acknowledged."""
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
def kept_log(cluster: Cluster, database: str, directory: Path, *more: object) -> Iterator[subprocess.Popen[bytes]]:
    """`ops/backup wal`, from the first segment on; ended in order."""
    command = [sys.executable, str(OPS / "backup"), "wal", "--to", str(directory), "--every", "0.2"]
    command += ["--pg-bin", str(cluster.bin), *(str(word) for word in more)]
    with subprocess.Popen(command, env=environment(cluster, database), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["ok"]
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0
