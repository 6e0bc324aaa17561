"""The profile `backup`, of its own accord; the volume destroyed, and what it held back: all of a dump, or a moment."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import eventually
from tests.containers.books import Say, nothing_lost_or_doubled
from tests.containers.clients import EXPORTED, POSTED, STOCK
from tests.containers.stack import PROJECT, CommandFailed, Stack, timed

SUMS = (
    "select json_agg(row) from (select item_id, location_id, sum(on_hand), count(*) from stock_balances"
    " group by 1, 2 order by 1, 2) row"
)
METRICS = "import urllib.request; print(urllib.request.urlopen('http://backup:9100/metrics.txt').read().decode())"
DATA = "/var/lib/postgresql/18/docker"
KEPT_UNTIL = "erp_backup_log_kept_until_timestamp_seconds"
RESTORE = ("--profile", "restore", "run", "--rm", "-T", "--no-deps", "restore")


@pytest.fixture(autouse=True)
async def profile(stack: Stack) -> AsyncIterator[None]:
    """Afterwards no service of the profile is left, nor what they kept."""
    before = dict(stack.env)
    stack.env["COMPOSE_PROFILES"] = "backup"
    yield
    stack.env = before
    if wal := await stack.containers("wal", running=False):
        await stack.run("podman", "rm", "--force", *wal)
    await stack.remove("backup", "backups")
    await stack.run("podman", "volume", "rm", f"{PROJECT}_spool")


async def test_backup_brings_back_what_a_destroyed_volume_held(stack: Stack, seen: Say) -> None:
    async with timed() as taken:
        await stack.anew("backup")
        dump = await eventually(partial(newest, stack, "dump"), seconds=60)
    assert dump is not None
    told = await eventually(partial(metrics, stack), seconds=10)
    assert told is not None
    assert told['erp_backup_last_run_ok{kind="dump"}'] == 1
    held = await stack.sql(SUMS)

    await stack.run("ops/scale", "api=0", "worker=0")
    await stack.remove("db", "postgres")
    async with timed() as down:
        await stack.anew("db")
        await eventually(partial(database_answers, stack), seconds=60)
        async with timed() as restored:
            await stack.compose(*RESTORE, "dump", f"/backups/{dump['backup']}", "--same-store")
        await served_again(stack)
    assert await stack.sql(SUMS) == held
    await nothing_lost_or_doubled(stack)
    await stack.sign_in()
    seen(f"a dump of {dump['bytes'] / 1e6:.0f} MB, read back: {taken[0]:.0f} s after the profile was started")
    seen(f"volume destroyed; restored in {restored[0]:.0f} s, ready again {down[0]:.0f} s after; `erp verify` holds")
    seen(f"{sum(POSTED.values()):,} postings and {len(EXPORTED):,} exports acknowledged so far, each there once")


async def test_moment_between_two_bookings_is_brought_back_by_an_encrypted_backup(stack: Stack, seen: Say) -> None:
    stack.env |= {"ERP_BACKUP_RECIPIENTS_FILE": "/etc/erp-backup/recipients", "ERP_BACKUP_WAL_SECONDS": "1"}
    identity = await made_key(stack)
    async with timed() as taken:
        await stack.anew("backup", "wal")
        base = await eventually(partial(newest, stack, "base"), seconds=90)
    assert base is not None
    await book(stack, 7)
    POSTED["LOAD-0"] += 7
    moment = await stack.sql("select clock_timestamp()")
    await book(stack, 3)
    booked = float(await stack.sql("select extract(epoch from clock_timestamp())"))
    async with timed() as kept:
        await eventually(partial(log_kept, stack, booked), seconds=60)
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
        words = ("base", "/backups", "--data-directory", DATA, "--until", moment, "--same-store", "--identity", "-")
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

    # on a server that went back in time, it goes on by itself
    again = float(await stack.sql("select extract(epoch from clock_timestamp())"))
    await stack.run("podman", "start", wal)
    await eventually(partial(taken_now, stack, backup), seconds=60)
    await eventually(partial(log_kept, stack, again), seconds=60)
    told = await eventually(partial(metrics, stack), seconds=10)
    assert told is not None
    assert {told[f'erp_backup_last_run_ok{{kind="{kind}"}}'] for kind in ("dump", "base", "wal")} == {1}
    seen(f"dump and base of {base['bytes'] / 1e6:.0f} MB, encrypted: {taken[0]:.0f} s after the profile was started")
    seen(
        f"a booking was seen to be kept {kept[0]:.1f} s after its answer (2 s and a look, or the name server was slow)"
    )
    seen(f"volume destroyed; at its moment again in {restored[0]:.0f} s, ready after {down[0]:.0f} s in all")


async def made_key(stack: Stack) -> bytes:
    """The secret key, made where `age` is sure to be; the public one lies where compose.yaml expects it."""
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
    """Of its backups of this kind, if there is one."""
    for backup in await stack.containers("backup"):
        try:
            told = await stack.inside(backup, "backup", "status", "--to", "/backups", "--kind", kind)
        except CommandFailed:
            return None
        found: dict[str, Any] = json.loads(told)[kind]
        return found
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


async def metrics(stack: Stack) -> dict[str, float] | None:
    """What Prometheus scrapes, from where it would; None if podman's name server lost the question where that is."""
    (worker, *_) = await stack.containers("worker")
    try:
        lines = (await stack.inside(worker, "python", "-c", METRICS)).splitlines()
    except CommandFailed:
        return None
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line)}


async def log_kept(stack: Stack, until: float) -> bool:
    told = await metrics(stack)
    return told is not None and told.get(KEPT_UNTIL, 0.0) > until


async def database_answers(stack: Stack) -> bool:
    """To others: while it makes a new volume its own, it listens to nobody."""
    for db in await stack.containers("db"):
        try:
            await stack.inside(db, "pg_isready", "--quiet", "--host=127.0.0.1")
        except CommandFailed:
            return False
        return True
    return False
