"""The company's settings in the databases of tests."""

import json
from datetime import date
from typing import Any

import msgspec

from erp_service.access.principals import Principal, system
from erp_service.company.queries import lock_for_update
from erp_service.company.schemas import SettingsChange
from erp_service.company.service import change
from erp_service.company.settings import CompanySettings
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession
from erp_service.settings import Settings
from tests.support.databases import connected

_SET = {"export_submissions_per_hour": 1_000_000, "export_downloads_per_minute": 1_000_000}

COMPANY = msgspec.convert(_SET, CompanySettings)
"""What tests run with: most have one user for everything, who must not be stopped half way."""

AS_OF_TESTS = f"update company set settings = '{json.dumps(_SET)}'"
"""Of a database that was just migrated."""


async def as_of_tests(url: str) -> None:
    """For a database that a test migrated itself; `url` is its owner's."""
    async with connected(url) as connection:
        await connection.execute(AS_OF_TESTS)


async def set_company(database: Database, **values: Any) -> None:
    """As an owner sets it. Instances that run already know it a moment later."""
    async with database.write() as db:
        wanted = msgspec.convert(values, SettingsChange)
        await change(db, system("test"), await lock_for_update(db), wanted, values.get("reason"))


async def set_company_at(url: str, **values: Any) -> None:
    """The same for the database with this address."""
    database = Database(Settings(database_url=url), name="erp test")
    try:
        await set_company(database, **values)
    finally:
        await database.close()


async def close_through(db: WriteSession, who: Principal, day: date | None, reason: str | None = None) -> None:
    """From now on nothing is posted to the days up to `day`; None opens all of them."""
    await change(db, who, await lock_for_update(db), SettingsChange(closed_through=day), reason)
