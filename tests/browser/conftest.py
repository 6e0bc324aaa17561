"""The service with demo stock, and people who can sign in."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
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


@pytest.fixture
def client(service: Process) -> Iterator[httpx.Client]:
    """Of the API, signed in as the owner."""
    with httpx.Client(base_url=f"{service.url}/api/v1", timeout=20) as client:
        pair = client.post("/auth/login", data={"username": EMAIL, "password": PASSWORD}).json()
        client.headers["Authorization"] = f"Bearer {pair['access_token']}"
        yield client
