"""What is set in the database is not set in the environment, and an upgrade loses nothing of what was set there."""

import json
from pathlib import Path

import asyncpg
import pytest

from erp_service import settings as environment
from erp_service.access.principals import system
from erp_service.company.environment import MOVED, ignored_variables, take_over, warn_of_ignored
from erp_service.company.queries import settings_out
from erp_service.company.settings import CompanySettings
from erp_service.db.engine import Database
from erp_service.observability import telemetry
from erp_service.settings import Settings
from tests.company.settings_api import entries
from tests.support.company import set_company

WHO = system("test")
URL = {"ERP_DATABASE_URL": "postgresql://erp@db/erp"}


async def taken(database: Database, environ: dict[str, str]) -> list[str]:
    async with database.write() as db:
        return await take_over(db, WHO, environ)


async def test_what_was_set_in_the_environment_is_taken_over_once(
    database: Database, owner: asyncpg.Connection
) -> None:
    environ = {"ERP_CURRENCY": "CHF", "ERP_EXPORT_RETENTION_HOURS": "24", "ERP_EXPORTS_RUNNING_PER_USER": "2"}
    said = "\n".join(await taken(database, environ))
    assert "currency = CHF was taken over from ERP_CURRENCY" in said
    assert "export_retention_hours = 24 was taken over" in said
    assert "ERP_EXPORTS_RUNNING_PER_USER is ignored from now on: remove it." in said
    async with database.read() as db:
        present = await settings_out(db)
    assert (present.currency, present.export_retention_hours, present.exports_running_per_user) == ("CHF", 24, 2)
    (entry,) = await entries(owner)
    assert entry["before"] == {"currency": "EUR", "export_retention_hours": 72}
    assert entry["after"] == {"currency": "CHF", "export_retention_hours": 24}
    # whatever the owner does afterwards, the environment does not undo it
    await set_company(database, currency=None, export_retention_hours=48)
    assert "taken over" not in "\n".join(await taken(database, environ))
    async with database.read() as db:
        present = await settings_out(db)
    assert (present.currency, present.export_retention_hours) == ("EUR", 48)


async def test_books_that_have_entries_keep_the_currency_that_they_are_in(
    database: Database, owner: asyncpg.Connection
) -> None:
    """Else an upgrade would turn francs into euros; also for a code that nobody would be let choose now."""
    await owner.execute("set session_replication_role = replica")
    await owner.execute(
        "insert into stock_ledger (transaction_id, line, item_id, entry_type, quantity, value, occurred_at)"
        " select gen_random_uuid(), 1, 1, 'ADJUSTMENT', 0, 1, now()"
    )
    await taken(database, {"ERP_CURRENCY": "HRK"})
    async with database.read() as db:
        assert (await settings_out(db)).currency == "HRK"


async def test_a_value_that_was_never_usable_is_named_and_stops_nothing(database: Database) -> None:
    said = await taken(database, {"ERP_EXPORTS_RUNNING_PER_USER": "many", "ERP_CURRENCY": "CHF"})
    assert any("ERP_EXPORTS_RUNNING_PER_USER cannot be used" in line for line in said)
    async with database.read() as db:
        present = await settings_out(db)
    assert (present.exports_running_per_user, present.currency) == (CompanySettings().exports_running_per_user, "CHF")


async def test_a_file_is_read_as_ever(database: Database, tmp_path: Path) -> None:
    (tmp_path / "currency").write_text("SEK\n")
    await taken(database, {"ERP_CURRENCY_FILE": str(tmp_path / "currency")})
    said = await taken(database, {"ERP_EXPORT_RETENTION_HOURS_FILE": str(tmp_path / "nothing")})
    assert "cannot be used" in said[0]
    async with database.read() as db:
        assert (await settings_out(db)).currency == "SEK"


async def test_what_never_was_a_variable_is_not_taken_over(database: Database, owner: asyncpg.Connection) -> None:
    environ = {"ERP_SECOND_FACTOR_FROM": "ADMIN", "ERP_CLOSED_THROUGH": "2020-01-31", "ERP_COMPANY_NAME": "Lumen"}
    assert len(await taken(database, environ)) == 3
    assert await entries(owner) == []


def test_no_setting_is_in_both_places() -> None:
    company = {*CompanySettings.__struct_fields__, "timezone", "closed_through"}
    assert company & {*Settings.__struct_fields__} == set()
    assert company > {*MOVED}


def test_a_process_with_such_a_variable_starts_and_says_that_it_is_ignored(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """During a roll, the version before still needs it."""
    environ = {**URL, "ERP_CURRENCY": "CHF", "ERP_TIMEZONE": "Europe/Zurich", "ERP_AUDIT_RETENTION_DAYS": ""}
    assert environment.load(environ).database_url == URL["ERP_DATABASE_URL"]
    assert ignored_variables(environ) == ["ERP_CURRENCY", "ERP_TIMEZONE"]
    telemetry.configure(Settings(database_url="", log_format="json", log_level="info"))
    try:
        warn_of_ignored(environ)
        warn_of_ignored(URL)
    finally:
        telemetry.configure(Settings(database_url="", log_level="error", log_format="text"))
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["variables"]) == ("warning", ["ERP_CURRENCY", "ERP_TIMEZONE"])
    assert "PATCH /api/v1/settings" in line["advice"]


@pytest.mark.parametrize("name", MOVED)
def test_a_variable_that_moved_is_known(name: str) -> None:
    assert ignored_variables({f"ERP_{name.upper()}": "1"}) == [f"ERP_{name.upper()}"]
    assert json.dumps(getattr(CompanySettings(), name))
