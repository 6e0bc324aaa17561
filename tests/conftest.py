"""A real Postgres, a database built by the migrations and cloned for each test, and the app as its clients see it."""

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from erp_service.worker_services import WorkerServices, build_worker_services
from tests.support import other_server
from tests.support.apps import SharedApp, fresh_instance
from tests.support.clients import SignIn, UserClient, client_of
from tests.support.clusters import in_memory, temporary_cluster
from tests.support.company import AS_OF_TESTS
from tests.support.databases import as_owner, connected
from tests.support.settings import as_role, settings_for
from tests.support.users import make_user, token_of
from tests.support.workers import Work, working

# CI draws the same examples each time, other runs draw new ones. No deadlines, since the machine may be shared.
_LOADED = [HealthCheck.too_slow]
hypothesis_settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=_LOADED)
hypothesis_settings.register_profile("dev", deadline=None, suppress_health_check=_LOADED)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

if "ERP_TEST_POSTGRES" in os.environ:
    other_server.use(Path(os.environ["ERP_TEST_POSTGRES"]))

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One PostgreSQL for each process of the test session."""
    with temporary_cluster("tests", parent=in_memory()) as cluster:
        yield cluster


@pytest.fixture(scope="session")
async def template(cluster: Cluster) -> str:
    """A migrated database to clone others from; cloning needs it to have no connection."""
    name = f"template_{os.getpid()}"
    await as_owner(cluster, f'create database "{name}"')
    await schema.migrate(cluster.owner_url(name))
    await as_owner(cluster, AS_OF_TESTS, database=name)
    return name


@pytest.fixture
async def database_name(cluster: Cluster, template: str) -> AsyncIterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    await as_owner(cluster, f'create database "{name}" template "{template}" strategy file_copy')
    yield name
    await as_owner(cluster, f'drop database "{name}" with (force)')


@pytest.fixture
def settings(cluster: Cluster, database_name: str, tmp_path: Path) -> Settings:
    return settings_for(cluster, database_name, tmp_path)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings, name="erp test")
    yield database
    await database.close()


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection, to read what is really stored and to damage it."""
    async with connected(settings.migration_database_url or "") as connection:
        yield connection


@pytest.fixture
async def worker_services(settings: Settings) -> AsyncIterator[WorkerServices]:
    """The services of a worker process."""
    services = build_worker_services(as_role(settings, "erp_worker"))
    yield services
    await services.close()


@pytest.fixture(scope="session")
def assembled(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> SharedApp:
    return SharedApp(settings_for(cluster, "nothing", tmp_path_factory.mktemp("nothing")))


@pytest.fixture
async def app(assembled: SharedApp, settings: Settings) -> AsyncIterator[Litestar]:
    """An instance of the API on the test's own database."""
    async with assembled.running(settings) as app:
        yield app


@pytest.fixture(scope="session")
async def shared_app(
    cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Litestar]:
    """An instance with one database for the many tests that store nothing: a database each would be most of their time.

    A test may register routes of its own with it."""
    async with fresh_instance(cluster, template, f"shared_{os.getpid()}", tmp_path_factory.mktemp("shared")) as app:
        yield app


@pytest.fixture
def work(settings: Settings) -> Work:
    return partial(working, settings)


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Not signed in."""
    async with client_of(app) as client:
        yield client


@pytest.fixture(scope="session", autouse=True)
def logs() -> None:
    """Configured as by `erp serve`, so that tests log what production logs."""
    telemetry.configure(Settings(database_url="", log_level="error", log_format="text"))


@pytest.fixture
async def sign_in(app: Litestar, settings: Settings, database: Database) -> AsyncIterator[SignIn]:
    async with contextlib.AsyncExitStack() as stack:

        async def sign_in(role: Role) -> UserClient:
            user_id = await make_user(database, role)
            return await stack.enter_async_context(UserClient(app, user_id, token_of(settings, user_id)))

        yield sign_in


@pytest.fixture
async def viewer(sign_in: SignIn) -> UserClient:
    return await sign_in(Role.VIEWER)


@pytest.fixture
async def staff(sign_in: SignIn) -> UserClient:
    return await sign_in(Role.STAFF)


@pytest.fixture
async def admin(sign_in: SignIn) -> UserClient:
    return await sign_in(Role.ADMIN)


@pytest.fixture
async def super_admin(sign_in: SignIn) -> UserClient:
    return await sign_in(Role.SUPER_ADMIN)
