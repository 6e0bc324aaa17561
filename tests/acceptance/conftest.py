"""Two instances and a worker for all tests of clients: starting them takes longer than most of these tests."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from erp_service.access.roles import Role
from erp_service.auth.passwords import hashed
from erp_service.client import Client, Job
from erp_service.db.engine import Database
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import instance, worker
from tests.acceptance.service import EMAIL, PASSWORD, ROWS, Service
from tests.support.company import set_company
from tests.support.databases import as_owner
from tests.support.settings import settings_for
from tests.support.users import make_user, token_of


@pytest.fixture(scope="session")
async def service(cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    name = f"service_{os.getpid()}"
    await as_owner(cluster, f'create database "{name}" template "{template}"')
    settings = settings_for(cluster, name, directory)
    await as_owner(
        cluster,
        "insert into items (sku, name, unit, description) select 'SKU-' || n, 'Item, \"' || n || '\"', 'PCS',"
        f" repeat('wörds ', 20) from generate_series(1, {ROWS}) n",
        database=name,
    )
    database = Database(settings, name="erp test")
    user_id = await make_user(database, Role.VIEWER, EMAIL, hashed(PASSWORD))
    await set_company(database, exports_waiting_per_user=1000)
    await database.close()
    async with (
        instance(settings, directory / "i1.log") as one,
        instance(settings, directory / "i2.log") as two,
        worker(settings, directory / "w.log"),
    ):
        yield Service([one.url, two.url], settings, token_of(settings, user_id), user_id)


@pytest.fixture(scope="session")
async def job(service: Service) -> Job:
    """A finished export of all items, a few megabytes of CSV."""

    def exported() -> Job:
        with Client(service.urls[0], service.token) as erp:
            return erp.follow(erp.submit("items"))

    return await asyncio.to_thread(exported)
