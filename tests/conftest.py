"""A real Postgres, a database built by the migrations and cloned for each test, and the app as its clients see it."""

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from litestar import Litestar
from sqlalchemy import insert

from erp_service.access.roles import Role
from erp_service.app import create_app
from erp_service.auth.models import User
from erp_service.auth.tokens import Claims, Tokens
from erp_service.db import migrate as schema
from erp_service.db.connections import asyncpg_arguments
from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.services import Services, WorkerServices, build_services, build_worker_services
from erp_service.settings import Settings
from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.support import other_server

# CI draws the same examples each time; elsewhere new ones are looked for. A shared machine knows no deadlines.
_LOADED = [HealthCheck.too_slow]
hypothesis_settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=_LOADED)
hypothesis_settings.register_profile("dev", deadline=None, suppress_health_check=_LOADED)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

if "ERP_TEST_POSTGRES" in os.environ:
    other_server.use(Path(os.environ["ERP_TEST_POSTGRES"]))

SECRET = "a-secret-for-tests-only-0123456789-abcdefghij"
ENOUGH = 4 << 30  # bytes of memory that must be free for the databases of the tests
_numbers = itertools.count()
T = TypeVar("T")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One PostgreSQL for the test session; fsync is off, for nothing here survives it anyway."""
    with (
        tempfile.TemporaryDirectory(prefix="erp-tests-", dir=in_memory()) as directory,
        postgres.running(Path(directory), fsync=False, max_connections=200) as running,
    ):
        yield running


def in_memory() -> str | None:
    """A database for each test is a few hundred files each: on a disk, that is most of the tests' time."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > ENOUGH else None


@pytest.fixture(scope="session")
async def template(cluster: Cluster) -> str:
    """A migrated database that nobody connects to, for others to be cloned from."""
    name = f"template_{os.getpid()}"
    await as_owner(cluster, f'create database "{name}"')
    await schema.migrate(cluster.owner_url(name))
    return name


@pytest.fixture
async def database_name(cluster: Cluster, template: str) -> AsyncIterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    await as_owner(cluster, f'create database "{name}" template "{template}" strategy file_copy')
    yield name
    await as_owner(cluster, f'drop database "{name}" with (force)')


async def as_owner(cluster: Cluster, *statements: str, database: str = "postgres") -> None:
    connection = await asyncpg.connect(**asyncpg_arguments(cluster.owner_url(database)))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def settings(cluster: Cluster, database_name: str, tmp_path: Path) -> Settings:
    return settings_for(cluster, database_name, tmp_path)


def settings_for(cluster: Cluster, database_name: str, tmp_path: Path) -> Settings:
    """The app connects as `erp_app`, which owns nothing: what a grant is missing for fails here."""
    return Settings(
        database_url=cluster.app_url(database_name),
        migration_database_url=cluster.owner_url(database_name),
        environment="development",
        jwt_secret=SECRET,
        export_store=f"file://{tmp_path}/exports",
        heartbeat_seconds=0.5,
        stalled_seconds=3,
        log_format="text",
        log_level="warning",
    )


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings, name="erp test")
    yield database
    await database.close()


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """The superuser's own connection, to look at what is really stored and to break what must hold."""
    connection = await asyncpg.connect(**asyncpg_arguments(settings.migration_database_url or ""))
    yield connection
    await connection.close()


@pytest.fixture
async def worker_services(settings: Settings) -> AsyncIterator[WorkerServices]:
    """What a worker process is composed of."""
    services = build_worker_services(settings)
    yield services
    await services.close()


@contextlib.asynccontextmanager
async def running(app: Litestar) -> AsyncIterator[None]:
    """The app's lifespan, which one task must open and close; a fixture's two halves are two tasks."""
    up, down = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with app.lifespan():
            up.set()
            await down.wait()

    held, waiting = asyncio.create_task(hold()), asyncio.create_task(up.wait())
    await asyncio.wait([held, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if held.done():
        await held
    try:
        yield
    finally:
        down.set()
        await held


def services_of(app: Litestar) -> Services:
    """What the app was composed with, for a test to look into or to break."""
    services = app.state["services"]
    assert isinstance(services, Services)
    return services


@pytest.fixture(scope="session")
def assembled(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Litestar:
    """Routes, middleware and plugins: putting them together costs more than most tests, and they hold no state."""
    return create_app(build_services(settings_for(cluster, "nothing", tmp_path_factory.mktemp("nothing"))))


@pytest.fixture
async def app(assembled: Litestar, settings: Settings) -> AsyncIterator[Litestar]:
    assembled.state["services"] = build_services(settings)
    async with running(assembled):
        yield assembled


@pytest.fixture(scope="session")
async def shared_app(
    cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Litestar]:
    """One app for the many tests that store nothing: a database each would be most of their time."""
    name = f"shared_{os.getpid()}"
    await as_owner(cluster, f'create database "{name}" template "{template}"')
    app = create_app(build_services(settings_for(cluster, name, tmp_path_factory.mktemp("shared"))))
    async with running(app):
        yield app


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is not signed in."""
    async with client_of(app) as client:
        yield client


@contextlib.asynccontextmanager
async def client_of(app: Litestar, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


@pytest.fixture(scope="session", autouse=True)
def logs() -> None:
    """As `erp serve` has them, so that what is logged under test is what is logged in production."""
    telemetry.configure(Settings(database_url="", log_level="error", log_format="text"))


SignIn = Callable[[Role], Awaitable[httpx.AsyncClient]]
"""`await sign_in(Role.STAFF)`: a client of a new user with that role; `client.user_id` is in `user_ids`."""


async def make_user(database: Database, role: Role, email: str | None = None, password_hash: str = "!") -> int:
    values = {
        "email": email or f"{role.lower()}{next(_numbers)}@example.com",
        "full_name": f"{role.title()} Person",
        "role": role,
        "password_hash": password_hash,
    }
    async with database.write() as db:
        return (await db.execute(insert(User).values(values).returning(User.id))).scalar_one()


def token_of(settings: Settings, user_id: int, version: int = 1) -> str:
    return Tokens(settings).issue(Claims(user_id, version, UUID("00000000-0000-7000-8000-000000000000")))


@pytest.fixture
async def sign_in(app: Litestar, settings: Settings, database: Database) -> AsyncIterator[SignIn]:
    async with contextlib.AsyncExitStack() as stack:

        async def sign_in(role: Role) -> httpx.AsyncClient:
            user_id = await make_user(database, role)
            client = await stack.enter_async_context(client_of(app, token_of(settings, user_id)))
            client.headers["X-User-Id"] = str(user_id)  # for the test to read; the service does not look at it
            return client

        yield sign_in


@pytest.fixture
async def viewer(sign_in: SignIn) -> httpx.AsyncClient:
    return await sign_in(Role.VIEWER)


@pytest.fixture
async def staff(sign_in: SignIn) -> httpx.AsyncClient:
    return await sign_in(Role.STAFF)


@pytest.fixture
async def admin(sign_in: SignIn) -> httpx.AsyncClient:
    return await sign_in(Role.ADMIN)


@pytest.fixture
async def super_admin(sign_in: SignIn) -> httpx.AsyncClient:
    return await sign_in(Role.SUPER_ADMIN)


async def eventually(look: Callable[[], Awaitable[T]], *, seconds: float = 20.0) -> T:
    """What `look` gives as soon as that is true; AssertionError with the last of it after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (seen := await look()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s: {seen!r}"
        await asyncio.sleep(0.02)
    return seen
