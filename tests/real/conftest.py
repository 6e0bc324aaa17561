"""The year is imported once for all tests here; the app, its clients and its workers run on that database."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from erp_service.access.principals import system
from erp_service.db import migrate as schema
from erp_service.imports.service import load
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.real.year import DATA, FILES, Year
from tests.support.databases import as_owner
from tests.support.psql import Psql, psql_of


@pytest.fixture(scope="session")
async def year(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Year]:
    name = f"year_{os.getpid()}"
    await as_owner(cluster, f'create database "{name}"')
    await schema.migrate(cluster.owner_url(name))
    told: list[tuple[int, int, str]] = []

    def tell(done: int, total: int, phase: str) -> None:
        told.append((done, total, phase))

    loaded = {
        kind: await load(cluster.app_url(name), kind, DATA / file, who=system("erp import"), progress=tell)
        for kind, file in FILES.items()
    }
    yield Year(name, tmp_path_factory.mktemp("exports"), loaded, told)
    await as_owner(cluster, f'drop database "{name}" with (force)')


@pytest.fixture
def database_name(year: Year) -> str:
    return year.database


@pytest.fixture
def settings(settings: Settings, year: Year) -> Settings:
    """One store for all tests here, since there is one database."""
    return msgspec.structs.replace(settings, export_store=f"file://{year.exports}")


@pytest.fixture
def psql(cluster: Cluster, database_name: str, tmp_path: Path) -> Psql:
    return psql_of(cluster, database_name, tmp_path)
