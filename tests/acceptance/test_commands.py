"""The `erp` command as a process of its own."""

import asyncio
import io
import json
import lzma
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from rich.console import Console

from erp_service import commands
from erp_service.cli import COMMANDS, load_command, main
from erp_service.commands.queue import Rows
from erp_service.commands.settings import narrow_lines
from erp_service.operations.verify import all_proofs
from erp_service.settings import Described, Settings
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import environment, erp, free_port, instance
from tests.support.databases import as_owner
from tests.support.waiting import eventually


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
    assert modules - {"__init__", "database", "import_service", "progress", "terminal"} == {
        module for module, _ in COMMANDS.values()
    }


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
        (["settings"], "", ["reset", "set"]),
        (["settings", "set"], "curr", ["currency"]),
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
    listed = json.loads(CliRunner(env=env).invoke(main, ["settings", "--json"]).stdout)
    assert {line["variable"] for line in listed} >= {"ERP_DATABASE_URL", "ERP_JWT_SECRET", "ERP_DRAIN_SECONDS"}
    assert {line["setting"] for line in listed} >= {"currency", "closed_through"}
    assert all(line["meaning"] for line in listed)


def test_settings_without_a_database_lists_what_is_set_and_mentions_it() -> None:
    env = {"ERP_DATABASE_URL": "", "ERP_PORT": "8123"}
    shown = CliRunner(env=env).invoke(main, ["settings"])
    assert shown.exit_code == 0
    assert re.search(r"^ERP_PORT +8123 ", shown.output, re.MULTILINE)
    assert "ERP_DATABASE_URL is not set" in shown.stderr
    assert "postgresql://\n" not in shown.output
    wrong = CliRunner(env=env | {"ERP_PORT": "many"}).invoke(main, ["settings"])
    assert wrong.exit_code == 1
    assert "erp: ERP_DATABASE_URL is not set" in wrong.stderr
    assert "ERP_PORT cannot be used" in wrong.stderr


def test_help_cuts_no_sentence_at_any_width() -> None:
    for width in (40, 80, 120):
        for arguments, sentences in (
            ([], [sentence for _, sentence in COMMANDS.values()]),
            (["queue"], ["Cancel a job: at once if it waits, within a second if it runs."]),
        ):
            shown = CliRunner(env={"COLUMNS": str(width)}).invoke(main, [*arguments, "--help"], terminal_width=width)
            words = " ".join(shown.output.split())
            assert all(" ".join(sentence.split()) in words for sentence in sentences), (width, shown.output)


def test_help_fits_a_terminal_of_80_columns() -> None:
    """A terminal breaks longer lines in the middle of a word, and click breaks no text that is set as it is written."""
    for arguments in ([], ["queue"], *([name] for name in COMMANDS)):
        shown = CliRunner().invoke(main, [*arguments, "--help"], terminal_width=80)
        assert max(map(len, shown.output.splitlines())) <= 80, shown.output


def test_settings_can_be_read_on_a_narrow_terminal() -> None:
    """A table of four columns in 40 columns of letters breaks every word."""
    row = Described("ERP_PORT", "the port that `erp serve` listens on", "8000", "8123")
    for width in (40, 80):
        lines = narrow_lines(row, width)
        assert lines[0] == "ERP_PORT = 8123 (default 8000)"
        assert max(map(len, lines)) <= width


def test_queue_can_be_read_on_a_narrow_terminal() -> None:
    """Nine columns in 40 columns of letters leave four letters of each id."""
    row: list[object] = ["0199aa00-0000-7000-8000-000000000000", "stock_movements", "[red]grace", None, 12.5]
    rows = Rows("failed exports", ["export", "dataset", "owner", "at", "percent"], [row])
    for width, is_table in ((40, False), (60, False), (200, True)):
        console = Console(width=width, file=io.StringIO())
        with console.capture() as capture:
            console.print(rows)
        shown = capture.get()
        assert max(map(len, shown.splitlines())) <= width
        for cell in ("0199aa00-0000-7000-8000-000000000000", "stock_movements", "[red]grace", "12.5"):
            assert cell in shown, shown
        assert bool(re.search(r"\nexport +dataset +owner +at +percent *\n", shown)) == is_table


def test_openapi_needs_no_database() -> None:
    document = json.loads(CliRunner().invoke(main, ["openapi"]).output)
    assert document["openapi"].startswith("3.1")
    assert "/api/v1/auth/login" in document["paths"]


async def test_a_missing_secret_stops_the_start_with_one_sentence(settings: Settings) -> None:
    production = {"ERP_JWT_SECRET": "", "ERP_ENVIRONMENT": "production", "ERP_PORT": str(free_port())}
    done = await run("serve", env=environment(settings) | production)
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
    assert holds.returncode == 0
    said = holds.stderr.splitlines()
    assert said[0].startswith("Checking 0 items, 0 locations, 0 documents, 0 ledger entries, 0 balances, ")
    proofs = all_proofs()
    for proof in proofs:
        assert any(re.match(rf"holds +\d+\.\d s  {proof.name}", line) for line in said), proof.name
    assert re.fullmatch(rf"The books hold\. {len(proofs)} proofs, in \d+\.\d s\.", said[-1])
    behind = await run("verify", "--head", f"1:{64 * 'a'}", env=env)
    assert behind.returncode == 1
    assert "there is no such position" in behind.stdout
    unread = await run("verify", "--head", "/nowhere", env=env)
    assert (unread.returncode, "cannot use /nowhere" in unread.stderr) == (1, True)
    wrong = await run("verify", "--head", __file__, env=env)
    assert (wrong.returncode, "line 1" in wrong.stderr) == (2, True)
    await owner.execute(
        "insert into items (sku, name, unit) values ('A', 'A', 'PCS');"
        "insert into locations (code, name, location_type) values ('L', 'L', 'WAREHOUSE');"
        "insert into stock_balances (item_id, location_id, on_hand) select i.id, l.id, 5 from items i, locations l"
    )
    broken = await run("verify", env=env)
    assert broken.returncode == 1
    assert "5" in broken.stdout
    assert re.search(r"^1 at fault +\d+\.\d s  balances: what is on hand", broken.stderr, re.MULTILINE)
    assert re.search(rf"The books do not hold: 1 of {len(proofs)} proofs fail, in ", broken.stderr)


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


async def invoked(*arguments: str, env: dict[str, str], given: str = "") -> Result:
    """The same in this process, for what needs no process of its own."""
    kept: dict[str, str | None] = {name: None for name in os.environ if name.startswith("ERP_")}
    ended = await asyncio.to_thread(CliRunner().invoke, main, arguments, env=kept | env, input=given)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended


async def test_a_file_that_cannot_be_read_does_not_blame_the_database(settings: Settings, tmp_path: Path) -> None:
    env = environment(settings)
    (tmp_path / "cut.csv.xz").write_bytes(lzma.compress(b"sku,name,unit\n" * 500)[:50])
    for file, said in (
        ("/nope.csv", "erp: cannot read /nope.csv: No such file or directory\n"),
        (str(tmp_path), f"erp: cannot read {tmp_path}: Is a directory\n"),
        (str(tmp_path / "cut.csv.xz"), "erp: The compressed file is cut short.\n"),
    ):
        ended = await invoked("import", "items", file, env=env)
        assert (ended.exit_code, ended.stderr) == (1, said)


async def test_import_takes_its_options_and_says_what_it_did(
    settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    env = environment(settings)
    await owner.execute("insert into locations (code, name, location_type) values ('L', 'L', 'BIN')")
    items = "sku;name;unit;reorder_point\n1E+05;Küche;pcs;2,5\n;;;\n".encode("cp1252")
    options = ["--encoding", "cp1252", "--decimal-comma", "--delimiter", "semicolon", "--keep-codes"]
    (tmp_path / "items.csv").write_bytes(items)
    tried = await invoked("import", "items", str(tmp_path / "items.csv"), *options, "--dry-run", env=env)
    expected = "It would be 1 item. Rows without any value: 1, passed over.\n"
    warning = "warning: line 2, sku: '1E+05' is taken as it is, though it looks like a large number that a spreadsheet"
    assert tried.stderr.startswith(warning)
    assert (tried.exit_code, tried.stderr.splitlines(keepends=True)[1:]) == (0, [f"Nothing was imported. {expected}"])
    done = await invoked("import", "items", str(tmp_path / "items.csv"), *options, env=env)
    assert done.exit_code == 0
    assert done.stderr.endswith("\nImported 1 item. Rows without any value: 1, passed over.\n")
    moved = "occurred_at,type,sku,location,quantity,total_cost\n"
    moved += "2026-03-02 10:00,out,1E+05,L,1,\n2026-03-01,in,1E+05,L,1,2\n"
    options = ["--timezone", "Europe/Berlin", "--sort", "occurred_at", "--history"]
    done = await invoked("import", "movements", "-", *options, env=env, given=moved)
    assert (done.exit_code, done.stderr) == (0, "Imported 2 movements.\n")
    for wrong in (["--timezone", "Mars/Base"], ["--encoding", "base64"], ["--encoding", "latin-99"]):
        refused = await invoked("import", "items", "-", *wrong, env=env)
        assert refused.exit_code == 2, refused.stderr
        assert repr(wrong[1]) in refused.stderr


async def test_the_bar_of_an_import_says_how_long_each_phase_took(
    settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    """It ended with 0:00:00 in each line, which was the time that was left."""
    (tmp_path / "items.csv").write_text('sku,name,unit,description\nA,Item A,PCS,"two\nlines"\n')
    command = [sys.executable, "-m", "erp_service", "import", "items", str(tmp_path / "items.csv")]
    env = environment(settings) | {"COLUMNS": "80"}
    status, shown = await asyncio.to_thread(on_a_terminal, command, env)
    assert status == 0, shown
    for phase in ("reading", "posting"):
        assert re.search(rf"{phase} +━+ +100% \d\.\d s", shown), shown
    assert "0:00:00" not in shown


def on_a_terminal(command: list[str], env: dict[str, str]) -> tuple[int, str]:
    """The exit status, and what was shown, without the codes for colours and cursor."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how Linux reports that the other end of a terminal was closed
            while piece := os.read(ours, 65536):
                shown += piece
        return process.wait(timeout=60), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    finally:
        os.close(ours)


async def test_create_user_refuses_what_is_no_email_before_it_takes_a_password(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    env = environment(settings)
    bad = await invoked("create-user", "bad", "--role", "ADMIN", env=env, given="a phrase to remember\n")
    assert bad.exit_code == 1
    assert "No user can be created as bad." in bad.stderr
    assert "e-mail" in bad.stderr
    silent = await invoked("create-user", "ada@example.com", "--role", "ADMIN", env=env)
    assert silent.exit_code == 2
    assert "no password on standard input" in silent.stderr
    assert await owner.fetchval("select count(*) from users") == 0


async def test_each_command_without_a_database_says_so_in_a_sentence(settings: Settings) -> None:
    nowhere = f"postgresql://erp@127.0.0.1:{free_port()}/erp"
    env = environment(settings) | {"ERP_DATABASE_URL": nowhere, "ERP_MIGRATION_DATABASE_URL": nowhere}
    for arguments in (["queue"], ["queue", "--json"], ["queue", "cancel", "5"], ["import", "items", "-"]):
        ended = await invoked(*arguments, env=env, given="sku,name,unit\nA,A,pcs\n")
        assert ended.exit_code == 1, arguments
        assert ended.stderr.startswith("erp: the database cannot be used: "), ended.stderr
        assert "ERP_DATABASE_URL says where it is." in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


async def test_a_database_without_tables_or_rights_is_told_what_it_lacks(settings: Settings, cluster: Cluster) -> None:
    await as_owner(cluster, "create database without_tables")
    try:
        env = environment(settings) | {"ERP_DATABASE_URL": cluster.owner_url("without_tables")}
        env |= {"ERP_MIGRATION_DATABASE_URL": env["ERP_DATABASE_URL"], "ERP_QUEUE_DATABASE_URL": ""}
        for arguments in (["verify"], ["queue"], ["import", "items", "-"]):
            ended = await invoked(*arguments, env=env, given="sku,name,unit\nA,A,pcs\n")
            assert ended.exit_code == 1, arguments
            assert "`erp migrate` brings them" in ended.stderr, ended.stderr
        env["ERP_MIGRATION_DATABASE_URL"] = cluster.app_url("without_tables")
        ended = await invoked("migrate", env=env)
        assert ended.exit_code == 1
        assert "permission denied" in ended.stderr
        assert "ERP_MIGRATION_DATABASE_URL is the owner's address" in ended.stderr
    finally:
        await as_owner(cluster, "drop database without_tables with (force)")


async def test_ctrl_c_in_an_import_says_that_nothing_was_imported(
    settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "items.csv"
    file.write_text("sku,name,unit\nA,Item A,PCS\n")
    async with owner.transaction():
        await owner.execute("lock table items in access exclusive mode")
        waits = "select count(*) from pg_locks where not granted"
        async with erp("import", "items", str(file), env=environment(settings), log=tmp_path / "log") as process:

            async def blocked() -> bool:
                return bool(await owner.fetchval(waits))

            await eventually(blocked, seconds=60)
            process.signal(signal.SIGINT)
            assert await process.ended() == 130
    assert (tmp_path / "log").read_text() == "erp: interrupted. Nothing was imported.\n"
    assert await owner.fetchval("select count(*) from items") == 0


@pytest.mark.parametrize(
    ("command", "at_once"), [("verify", "Trying again, for 20 s at most."), ("worker", "The database does not answer.")]
)
async def test_a_command_that_waits_for_the_database_says_so_at_once_and_ends_on_ctrl_c_with_one_sentence(
    settings: Settings, tmp_path: Path, command: str, at_once: str
) -> None:
    nowhere = f"postgresql://erp@127.0.0.1:{free_port()}/erp"
    env = environment(settings) | {"ERP_DATABASE_URL": nowhere, "ERP_QUEUE_DATABASE_URL": ""}
    log = tmp_path / "log"
    async with erp(command, env=env, log=log) as process:

        async def said() -> bool:
            return at_once in log.read_text()

        await eventually(said, seconds=60)
        process.signal(signal.SIGINT)
        assert await process.ended() == 130
    assert log.read_text().endswith("\nerp: interrupted.\n")
    assert "Traceback" not in log.read_text()


def test_a_closed_pipe_ends_a_command_quietly_with_its_own_status() -> None:
    for arguments in (["openapi"], ["settings"]):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            command = [sys.executable, "-m", "erp_service", *arguments]
            ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
        finally:
            os.close(writer)
        assert ended.returncode == 141, arguments
        assert "erp: the reader of the pipe went away.\n" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert "Exception ignored" not in ended.stderr


def test_a_fault_of_ours_is_named_without_its_text_which_may_hold_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("hunter2")

    monkeypatch.setattr("erp_service.commands.settings.describe", fail)
    ended = CliRunner().invoke(main, ["settings"])
    assert ended.exit_code == 70
    assert ended.stderr.startswith("erp: a fault of this program: KeyError in test_commands.py, line ")
    assert "hunter2" not in ended.stderr


async def test_serve_takes_host_and_port_before_the_settings(settings: Settings, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    env = environment(settings) | {"ERP_HOST": "203.0.113.1", "ERP_PORT": "1"}
    async with (
        erp("serve", "--host", "127.0.0.1", "--port", str(port), env=env, log=log) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):

        async def answers() -> bool:
            with suppress(httpx.TransportError):
                return (await client.get("/health/live")).status_code == 200
            return False

        await eventually(answers, seconds=60)
        taken = await run("serve", "--host", "127.0.0.1", "--port", str(port), env=env)
        assert taken.returncode == 1
        assert taken.stderr.startswith(f"erp: cannot listen on 127.0.0.1 port {port}: Address already in use.")
        assert len(taken.stderr.splitlines()) == 1
        process.signal(signal.SIGINT)
        assert await process.ended() == 0
