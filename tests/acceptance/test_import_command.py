"""`erp import --url` with a real instance and a real worker."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import free_port, instance, worker
from tests.imports.jobs import ITEMS, LOCATIONS, MOVEMENTS
from tests.support.users import make_user, token_of


async def run(*arguments: str, token: str, given: str = "") -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ERP_")}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "erp_service", "import", *arguments],
        env={**kept, "ERP_TOKEN": token},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


async def test_a_file_is_sent_followed_and_undone(
    settings: Settings, database: Database, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    token = token_of(settings, await make_user(database, Role.ADMIN))
    (tmp_path / "items.csv").write_text(ITEMS)
    async with instance(settings, tmp_path / "api.log") as api, worker(settings, tmp_path / "worker.log"):
        url = ("--url", api.url)
        items = await run("items", str(tmp_path / "items.csv"), *url, token=token)
        assert items.returncode == 0, items.stderr
        assert "Imported 2 items (import " in items.stderr
        again = await run("items", str(tmp_path / "items.csv"), "--mode", "upsert", *url, token=token)
        assert "2 items: 0 new, 0 changed, 2 unchanged" in again.stderr
        assert (await run("locations", "-", *url, token=token, given=LOCATIONS)).returncode == 0
        bad = await run("movements", "-", "--dry-run", *url, token=token, given=MOVEMENTS.replace(",A,", ",Z,"))
        assert bad.returncode == 1
        assert "line 2, sku: there is no item 'Z'" in bad.stderr
        moved = await run("movements", "-", *url, token=token, given=MOVEMENTS)
        assert moved.returncode == 0, moved.stderr
        job_id = moved.stderr.rpartition("(import ")[2].split(")")[0]
        undone = await run("--undo", job_id, "--reason", "a test", *url, token=token)
        assert undone.returncode == 0, undone.stderr
        assert "Reversed 2 documents" in undone.stderr
        twice = await run("--undo", job_id, *url, token=token)
        assert twice.returncode == 1
        assert "undone already" in twice.stderr
    assert await owner.fetchval("select sum(on_hand) from stock_balances") == 0
    nobody = await run("items", "-", "--url", f"http://127.0.0.1:{free_port()}", token=token, given=ITEMS)
    assert nobody.returncode == 4


async def test_an_import_from_the_command_line_is_undone_by_its_number(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ERP_")}
    env["ERP_DATABASE_URL"] = settings.migration_database_url or settings.database_url

    async def erp(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "erp_service", "import", *arguments]
        return await asyncio.to_thread(
            subprocess.run, command, env=env, input=given, capture_output=True, text=True, timeout=60
        )

    for kind, content in (("items", ITEMS), ("locations", LOCATIONS), ("movements", MOVEMENTS)):
        assert (await erp(kind, "-", given=content)).returncode == 0
    number = await owner.fetchval("select id from imports where kind = 'movements'")
    refused = await erp("--undo", str(await owner.fetchval("select id from imports where kind = 'items'")))
    assert refused.returncode == 1
    assert "was of items" in refused.stderr
    done = await erp("--undo", str(number))
    assert (done.returncode, done.stderr) == (0, "Reversed 2 documents.\n")
    assert await owner.fetchval("select sum(on_hand) from stock_balances") == 0
    assert (await erp("movements", "-", given=MOVEMENTS)).returncode == 0
