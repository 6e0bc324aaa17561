"""The profile `backup` takes backups by itself; the database's volume is destroyed, and restored from both kinds."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.containers.archive import metrics, wal_archived
from tests.containers.books import Say, nothing_lost_or_doubled
from tests.containers.clients import EXPORTED, POSTED, STOCK
from tests.containers.stack import PROJECT, CommandFailed, Stack, timed
from tests.support.waiting import eventually

SUMS = (
    "select json_agg(row) from (select item_id, location_id, sum(on_hand), count(*) from stock_balances"
    " group by 1, 2 order by 1, 2) row"
)
DATA = "/var/lib/postgresql/18/docker"
RESTORE = ("--profile", "restore", "run", "--rm", "-T", "--no-deps", "restore")


@pytest.fixture(autouse=True)
async def profile(stack: Stack) -> AsyncIterator[None]:
    """Afterwards no service of the profile is left, nor a volume of theirs."""
    before = dict(stack.env)
    stack.env["COMPOSE_PROFILES"] = "backup"
    yield
    stack.env = before
    if wal := await stack.containers("wal", running=False):
        await stack.run("podman", "rm", "--force", *wal)
    await stack.remove("backup", "backups")
    await stack.run("podman", "volume", "rm", f"{PROJECT}_spool")


async def test_dump_restores_a_destroyed_volume(stack: Stack, seen: Say) -> None:
    async with timed() as taken:
        await stack.anew("backup")
        dump = await eventually(partial(newest, stack, "dump"), seconds=60)
    assert dump is not None
    values = await eventually(partial(metrics, stack), seconds=10)
    assert values is not None
    assert values['erp_backup_last_run_ok{kind="dump"}'] == 1
    sums = await stack.sql(SUMS)

    await stack.run("ops/scale", "api=0", "worker=0")
    await stack.remove("db", "postgres")
    async with timed() as down:
        await stack.anew("db")
        await eventually(partial(database_answers, stack), seconds=60)
        async with timed() as restored:
            await stack.compose(*RESTORE, "dump", f"/backups/{dump['backup']}", "--same-store")
        await served_again(stack)
    assert await stack.sql(SUMS) == sums
    await nothing_lost_or_doubled(stack)
    await stack.sign_in()
    seen(f"a dump of {dump['bytes'] / 1e6:.0f} MB, read back: {taken[0]:.0f} s after the profile was started")
    seen(f"volume destroyed; restored in {restored[0]:.0f} s, ready again {down[0]:.0f} s after; `erp verify` holds")
    seen(f"{sum(POSTED.values()):,} postings and {len(EXPORTED):,} exports acknowledged so far, each there once")


async def test_encrypted_backup_restores_a_time_between_two_bookings(stack: Stack, seen: Say) -> None:
    stack.env |= {"ERP_BACKUP_RECIPIENTS_FILE": "/etc/erp-backup/recipients", "ERP_BACKUP_WAL_SECONDS": "1"}
    identity = await made_key(stack)
    async with timed() as taken:
        await stack.anew("backup", "wal")
        base = await eventually(partial(newest, stack, "base"), seconds=90)
    assert base is not None
    await book(stack, 7)
    POSTED["LOAD-0"] += 7
    until = await stack.sql("select clock_timestamp()")
    await book(stack, 3)
    booked = float(await stack.sql("select extract(epoch from clock_timestamp())"))
    async with timed() as archived:
        await eventually(partial(wal_archived, stack, booked), seconds=60)
    (backup,) = await stack.containers("backup")
    find = ("find", "/backups", "-name", "metrics", "-prune", "-o", "-type", "f", "-print")
    there = (await stack.inside(backup, *find)).split()
    assert {Path(path).name for path in there if not path.endswith(".age")} == {"manifest.json", "SHA256SUMS", ".lock"}
    check = ("backup", "check", f"/backups/{base['backup']}")
    assert json.loads(await stack.inside(backup, *check))["checked"] == "digests"
    assert json.loads(await stack.inside(backup, *check, "--identity", "-", stdin=identity))["checked"] == "content"

    (wal,) = await stack.containers("wal")
    async with timed() as down:
        served = [*await stack.containers("api"), *await stack.containers("worker")]
        await stack.discard(served)
        await stack.run("podman", "stop", wal)
        await stack.remove("db", "postgres")
        words = ("base", "/backups", "--data-directory", DATA, "--until", until, "--same-store", "--identity", "-")
        async with timed() as restored:
            said = await stack.compose(*RESTORE, *words, stdin=identity)
        assert json.loads(said.splitlines()[-1])["backup"] == base["backup"]
        await stack.anew("db")
        await eventually(partial(database_answers, stack), seconds=60)
        await served_again(stack)
    await nothing_lost_or_doubled(stack)
    headers = {"Authorization": f"Bearer {await stack.sign_in()}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
        shown = (await client.get(f"{STOCK}/current", params={"sku": "LOAD-0"})).json()
    assert [int(float(row["on_hand"])) for row in shown["items"]] == [POSTED["LOAD-0"]]

    # archiving goes on by itself on a server that was restored to an earlier time
    again = float(await stack.sql("select extract(epoch from clock_timestamp())"))
    await stack.run("podman", "start", wal)
    await eventually(partial(taken_now, stack, backup), seconds=60)
    await eventually(partial(wal_archived, stack, again), seconds=60)
    values = await eventually(partial(metrics, stack), seconds=10)
    assert values is not None
    assert {values[f'erp_backup_last_run_ok{{kind="{kind}"}}'] for kind in ("dump", "base", "wal")} == {1}
    seen(f"dump and base of {base['bytes'] / 1e6:.0f} MB, encrypted: {taken[0]:.0f} s after the profile was started")
    seen(f"the WAL of a booking was archived {archived[0]:.1f} s after its response (about 2 s)")
    seen(f"volume destroyed; at its earlier time in {restored[0]:.0f} s, ready after {down[0]:.0f} s in all")


async def made_key(stack: Stack) -> bytes:
    """The secret key, made in the image, which has age; writes the public key to where compose.yaml expects it."""
    image = stack.env["ERP_BACKUP_IMAGE"]
    identity = await stack.run("podman", "run", "--rm", "--network=none", "--entrypoint=age-keygen", image)
    public = next(line for line in identity.splitlines() if line.startswith("# public key: "))
    (stack.secrets / "backup" / "recipients").write_text(public.removeprefix("# public key: ") + "\n")
    return identity.encode()


async def book(stack: Stack, times: int) -> None:
    headers = {"Authorization": f"Bearer {await stack.sign_in()}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
        for _ in range(times):
            body = {"sku": "LOAD-0", "location": "LOAD", "quantity": "1", "unit_cost": "2"}
            assert (await client.post(f"{STOCK}/in", json=body)).status_code == 201


async def served_again(stack: Stack) -> None:
    """Migrated, started and proved."""
    await stack.anew("migrate")
    await stack.anew("api", "worker")
    await eventually(stack.answers, seconds=60)
    (api, *_) = await stack.containers("api")
    # ends with another status than 0, which is CommandFailed, if anything is at fault
    await stack.inside(api, "erp", "verify")


async def newest(stack: Stack, kind: str) -> dict[str, Any] | None:
    """The newest backup of this kind, if there is one."""
    for backup in await stack.containers("backup"):
        try:
            output = await stack.inside(backup, "backup", "status", "--to", "/backups", "--kind", kind)
        except CommandFailed:
            return None
        status: dict[str, Any] = json.loads(output)[kind]
        return status
    return None


async def taken_now(stack: Stack, backup: str) -> bool:
    """False if podman's name server lost the question where the new database is."""
    try:
        await stack.inside(backup, "take", "base")
    except CommandFailed as failed:
        if "translate host name" in str(failed):
            return False
        raise
    return True


async def database_answers(stack: Stack) -> bool:
    """Over the network: while it initialises a new volume, it listens on its socket only."""
    for db in await stack.containers("db"):
        try:
            await stack.inside(db, "pg_isready", "--quiet", "--host=127.0.0.1")
        except CommandFailed:
            return False
        return True
    return False
