"""The service with demo stock, and people who can sign in."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from erp_service.auth.users import first_super_admin
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone.demo import load_colleague, load_demo
from tests.acceptance.instances import Process, instance
from tests.browser.chromium import chromium
from tests.browser.people import EMAIL, PASSWORD


@pytest.fixture
def browser() -> Iterator[Chrome]:
    with chromium("--window-size=1400,2400") as chrome:
        yield chrome


@pytest.fixture
async def stocked(settings: Settings, database: Database) -> Settings:
    """The settings of a database with demo stock and an owner."""
    await first_super_admin(database, EMAIL, PASSWORD)
    await load_demo(settings.database_url)
    await load_colleague(database)
    return settings


@pytest.fixture
async def service(stocked: Settings, tmp_path: Path) -> AsyncIterator[Process]:
    async with instance(stocked, tmp_path / "log") as process:
        yield process
