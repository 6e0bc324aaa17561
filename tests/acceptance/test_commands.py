"""The `erp` command as a process of its own."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from erp_service import commands
from erp_service.cli import COMMANDS, load_command, main
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import environment, instance
from tests.support.databases import as_owner


async def run(*arguments: str, env: dict[str, str], given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "erp_service", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, input=given, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("command", [[], *([name] for name in sorted(main.commands))], ids=" ".join)
def test_help_teaches(command: list[str]) -> None:
    shown = CliRunner().invoke(main, [*command, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output) > 150


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_list_says_of_a_command_what_the_command_says_itself(name: str) -> None:
    itself, stand_in = load_command(name), main.commands[name]
    assert itself.name == name
    for width in (45, 80, 500):
        assert stand_in.get_short_help_str(width) == itself.get_short_help_str(width)


def test_every_command_is_in_the_list() -> None:
    modules = {path.stem for path in Path(*commands.__path__).glob("*.py")}
    assert modules - {"__init__", "database", "terminal"} == {module for module, _ in COMMANDS.values()}


def test_a_misspelt_command_is_told_its_name() -> None:
    shown = CliRunner().invoke(main, ["exprot"])
    assert shown.exit_code == 2
    assert "No such command 'exprot'. Did you mean 'export'?" in shown.output


@pytest.mark.parametrize(
    ("words", "begun", "offered"),
    [
        ([], "", sorted(COMMANDS)),
        ([], "s", ["serve", "settings"]),
        (["export"], "--fil", ["--filter", "--filename"]),
        (["queue"], "", ["cancel", "retry"]),
        (["import"], "", ["items", "locations", "movements"]),
    ],
)
def test_shell_completes_commands_and_what_follows_them(words: list[str], begun: str, offered: list[str]) -> None:
    shell = ShellComplete(main, {}, "erp", "_ERP_COMPLETE")
    assert [item.value for item in shell.get_completions(words, begun)] == offered


def test_settings_lists_every_variable_with_its_meaning_and_masks_secrets() -> None:
    env = {"ERP_DATABASE_URL": "postgresql://erp:hunter2@db/erp", "ERP_JWT_SECRET": "abcdefgh" * 5}
    shown = CliRunner(env=env).invoke(main, ["settings"])
    assert shown.exit_code == 0
    assert "hunter2" not in shown.output
    assert "abcdefgh" not in shown.output
    listed = json.loads(CliRunner(env=env).invoke(main, ["settings", "--json"]).output)
    assert {line["variable"] for line in listed} >= {"ERP_DATABASE_URL", "ERP_JWT_SECRET", "ERP_DRAIN_SECONDS"}


def test_settings_without_a_database_still_teaches_and_says_what_is_missing() -> None:
    shown = CliRunner(env={"ERP_DATABASE_URL": ""}).invoke(main, ["settings"])
    assert shown.exit_code == 1
    assert "ERP_JWT_SECRET" in shown.output
    assert "ERP_DATABASE_URL is not set" in shown.output


def test_openapi_needs_no_database() -> None:
    document = json.loads(CliRunner().invoke(main, ["openapi"]).output)
    assert document["openapi"].startswith("3.1")
    assert "/api/v1/auth/login" in document["paths"]


async def test_a_missing_secret_stops_the_start_with_one_sentence(settings: Settings) -> None:
    done = await run("serve", env=environment(settings) | {"ERP_JWT_SECRET": ""})
    assert done.returncode == 1
    assert done.stderr.startswith("erp: ERP_JWT_SECRET is not set")
    assert len(done.stderr.splitlines()) == 1


async def test_migrate_makes_a_database_and_then_has_nothing_to_do(cluster: Cluster, settings: Settings) -> None:
    await as_owner(cluster, "create database by_command")
    env = environment(settings) | {"ERP_MIGRATION_DATABASE_URL": cluster.owner_url("by_command")}
    for _ in range(2):
        done = await run("migrate", env=env)
        assert (done.returncode, done.stderr) == (0, "The database is up to date.\n")
    look_alike = "insert into items (sku, name, unit) values (U&'A\\00A0B', 'Nut', 'pcs'), ('A B', 'Nut', 'pcs')"
    await as_owner(cluster, look_alike, database="by_command")
    done = await run("migrate", env=env)
    told = done.stderr.splitlines()
    blank = "has a blank other than the plain one (U+00A0) at position 2"
    assert (done.returncode, told[1]) == (0, f"  item 1: 'A\\xa0B' {blank}; it looks like item 2")
    assert told[2].startswith("Give each of them a sku or code of its own")
    await as_owner(cluster, "drop database by_command")


async def test_create_user_reads_a_password_from_a_pipe_and_the_user_can_sign_in(
    settings: Settings, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    env = environment(settings)
    made = await run("create-user", "Ada@Example.com", "--role", "ADMIN", env=env, given="a phrase to remember\n")
    assert made.returncode == 0, made.stderr
    async with instance(settings, tmp_path / "log") as process, httpx.AsyncClient(base_url=process.url) as client:
        form = {"username": "ada@example.com", "password": "a phrase to remember"}
        assert (await client.post("/api/v1/auth/login", data=form)).status_code == 200
    assert await owner.fetchval("select count(*) from audit_log where action = 'user.created'") == 1

    again = await run("create-user", "ada@example.com", "--role", "STAFF", env=env, given="another phrase here\n")
    assert again.returncode == 1
    weak = await run("create-user", "bob@example.com", "--role", "STAFF", env=env, given="short\n")
    assert weak.returncode == 1
    assert "12" in weak.stderr


async def test_verify_says_that_the_books_hold_or_which_rows_are_at_fault(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    env = environment(settings)
    holds = await run("verify", env=env)
    assert (holds.returncode, holds.stderr) == (0, "The books hold.\n")
    await owner.execute(
        "insert into items (sku, name, unit) values ('A', 'A', 'PCS');"
        "insert into locations (code, name, location_type) values ('L', 'L', 'WAREHOUSE');"
        "insert into stock_balances (item_id, location_id, on_hand) select i.id, l.id, 5 from items i, locations l"
    )
    broken = await run("verify", env=env)
    assert broken.returncode == 1
    assert "5" in broken.stdout


async def test_import_names_bad_lines_and_loads_nothing(
    settings: Settings, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    file = tmp_path / "items.csv"
    file.write_text("sku,name,unit\nA,Item A,PCS\n,no sku,PCS\nB,Item B\n")
    done = await run("import", "items", str(file), env=environment(settings))
    assert done.returncode == 1
    assert "3" in done.stderr
    assert "4" in done.stderr
    assert await owner.fetchval("select count(*) from items") == 0
    file.write_text("sku,name,unit\nA,Item A,PCS\nB,Item B,PCS\n")
    loaded = await run("import", "items", "-", env=environment(settings), given=file.read_text())
    assert (loaded.returncode, await owner.fetchval("select count(*) from items")) == (0, 2), loaded.stderr
    again = await run("import", "items", str(file), env=environment(settings))
    assert again.returncode == 1
    assert "already" in again.stderr


async def test_a_database_that_refuses_the_address_is_one_sentence(settings: Settings) -> None:
    env = environment(settings) | {"ERP_DATABASE_URL": settings.database_url.replace("erp_app@", "nobody_here@")}
    done = await run("verify", env=env)
    assert done.returncode == 1
    assert "nobody_here" in done.stderr
