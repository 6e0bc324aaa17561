"""`erp settings`, for whoever is on the machine."""

import asyncio
import json
from collections.abc import Callable

import asyncpg
import pytest
from click.testing import CliRunner, Result

from erp_service.cli import main
from erp_service.company.schemas import READ_ONLY, SettingsOut
from erp_service.settings import Settings
from tests.company.settings_api import entries

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings) -> Run:
    runner = CliRunner(env={"ERP_DATABASE_URL": settings.database_url, "ERP_CURRENCY": "", "COLUMNS": "200"})

    def run(*arguments: str) -> Result:
        return runner.invoke(main, ["settings", *arguments])

    return run


async def ran(run: Run, *arguments: str) -> Result:
    """In a thread: the command has an event loop of its own."""
    return await asyncio.to_thread(run, *arguments)


async def test_both_places_are_shown(run: Run) -> None:
    shown = await ran(run)
    assert shown.exit_code == 0, shown.output
    assert "ERP_DATABASE_URL" in shown.output
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("currency")]
    assert line.split()[:3] == ["currency", "EUR", "EUR"]
    listed = json.loads((await ran(run, "--json")).stdout)
    own = {row["setting"]: row for row in listed if row["setting"] is not None}
    assert {*own} == {*SettingsOut.__struct_fields__} - {*READ_ONLY}
    assert own["timezone"]["value"] == "UTC"
    assert all(row["meaning"] for row in listed)


async def test_a_setting_is_set_and_reset_and_the_audit_log_says_by_whom(run: Run, owner: asyncpg.Connection) -> None:
    done = await ran(run, "set", "exports_running_per_user", "5", "--reason", "a new server")
    assert (done.exit_code, done.stdout) == (0, "exports_running_per_user is 5; it was 2.\n")
    done = await ran(run, "reset", "exports_running_per_user")
    assert (done.exit_code, done.stdout) == (0, "exports_running_per_user is 2; it was 5.\n")
    done = await ran(run, "reset", "exports_running_per_user")
    assert done.stdout == "exports_running_per_user is 2, as it was.\n"
    assert [(entry["after"], entry["reason"]) for entry in await entries(owner)] == [
        ({"exports_running_per_user": 5}, "a new server"),
        ({"exports_running_per_user": 2}, None),
    ]
    actors = await owner.fetch("select distinct actor from audit_log where entity = 'company'")
    assert [row["actor"].partition(":")[0] for row in actors] == ["command"]


@pytest.mark.parametrize(
    ("name", "value", "now"),
    [
        ("company_name", "Café Lumen", "Café Lumen"),
        ("low_stock_threshold", "2.50", "2.5"),
        ("timezone", "Europe/Zurich", "Europe/Zurich"),
        ("closed_through", "2020-01-31", "2020-01-31"),
        ("requests_per_minute_per_key", "null", "None"),
        ("second_factor_from", "ADMIN", "ADMIN"),
    ],
)
async def test_values_are_written_as_people_write_them(run: Run, name: str, value: str, now: str) -> None:
    done = await ran(run, "set", name, value)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{name} is {now}; it was ")


async def test_what_the_api_refuses_is_refused_here(run: Run) -> None:
    for name, value, why in (
        ("currency", "eur", "currency cannot be eur"),
        ("currency", "ABC", "is not an ISO 4217 code"),
        ("timezone", "right/Europe/Berlin", "is not the name of an IANA time zone"),
        ("closed_through", "2999-01-01", "must be a day that has ended"),
        ("exports_running_per_user", "0", "exports_running_per_user cannot be 0"),
    ):
        refused = await ran(run, "set", name, value)
        assert refused.exit_code == 1
        assert why in refused.stderr
    assert (await ran(run, "set", "closed_through", "2020-01-31")).exit_code == 0
    assert "say why" in (await ran(run, "reset", "closed_through")).stderr
    assert (await ran(run, "reset", "closed_through", "--reason", "a mistake")).exit_code == 0
    unknown = await ran(run, "set", "pool_size", "5")
    assert unknown.exit_code == 2


async def test_a_database_that_does_not_answer_is_only_mentioned() -> None:
    runner = CliRunner(env={"ERP_DATABASE_URL": "postgresql://erp@127.0.0.1:1/erp", "ERP_CURRENCY": "CHF"})
    shown = await asyncio.to_thread(runner.invoke, main, ["settings"])
    assert shown.exit_code == 0
    assert "What is set in the database is not known" in shown.stderr
    assert "ERP_CURRENCY is ignored." in shown.stderr
    assert "currency" in shown.stdout


async def test_erp_migrate_takes_over_what_its_environment_has_and_says_so(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    env = {
        "ERP_DATABASE_URL": settings.database_url,
        "ERP_MIGRATION_DATABASE_URL": settings.migration_database_url,
        "ERP_CURRENCY": "CHF",
    }
    runner = CliRunner(env=env)
    for taken in (True, False):
        done = await asyncio.to_thread(runner.invoke, main, ["migrate"])
        assert done.exit_code == 0, done.output
        assert ("currency = CHF was taken over from ERP_CURRENCY" in done.stderr) is taken
        assert "ERP_CURRENCY is ignored from now on: remove it." in done.stderr
    assert await owner.fetchval("select settings ->> 'currency' from company") == "CHF"
    assert [entry["reason"] for entry in await entries(owner)] == ["was set in the environment"]
