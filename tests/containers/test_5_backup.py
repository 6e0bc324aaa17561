"""The profile `backup`: a dump of its own accord, the volume destroyed, and all of it back."""

import json
from functools import partial
from typing import Any

from tests.conftest import eventually
from tests.containers.books import EXPORTED, POSTED, Say, nothing_lost_or_doubled
from tests.containers.stack import CommandFailed, Stack, timed

SUMS = (
    "select json_agg(row) from (select item_id, location_id, sum(on_hand), count(*) from stock_balances"
    " group by 1, 2 order by 1, 2) row"
)
METRICS = "import urllib.request; print(urllib.request.urlopen('http://backup:9100/metrics.txt').read().decode())"


async def test_backup_brings_back_what_a_destroyed_volume_held(stack: Stack, seen: Say) -> None:
    before = dict(stack.env)
    stack.env["COMPOSE_PROFILES"] = "backup"
    async with timed() as taken:
        await stack.anew("backup")
        dump = await eventually(partial(newest, stack), seconds=60)
    assert dump is not None
    (worker, *_) = await stack.containers("worker")
    # what Prometheus scrapes, from where it would
    told = await stack.inside(worker, "python", "-c", METRICS)
    assert 'erp_backup_last_run_ok{kind="dump"} 1' in told.splitlines()
    held = await stack.sql(SUMS)

    await stack.run("ops/scale", "api=0", "worker=0")
    await stack.remove("db", "postgres")
    async with timed() as down:
        await stack.anew("db")
        await eventually(partial(database_answers, stack), seconds=60)
        async with timed() as restored:
            await stack.compose(
                "run", "--rm", "-T", "--no-deps", "--entrypoint", "restore", "backup",
                "dump", f"/backups/{dump['backup']}", "--same-store",
            )  # fmt: skip
        await stack.anew("migrate")
        await stack.anew("api", "worker")
        await eventually(stack.answers, seconds=60)
    (api, *_) = await stack.containers("api")
    # ends with another status than 0, which is CommandFailed, if anything is at fault
    await stack.inside(api, "erp", "verify")
    assert await stack.sql(SUMS) == held
    await nothing_lost_or_doubled(stack)
    await stack.sign_in()
    seen(f"a dump of {dump['bytes'] / 1e6:.0f} MB, read back: {taken[0]:.0f} s after the profile was started")
    seen(f"volume destroyed; restored in {restored[0]:.0f} s, ready again {down[0]:.0f} s after; `erp verify` holds")
    seen(f"{sum(POSTED.values()):,} postings and {len(EXPORTED):,} exports acknowledged so far, each there once")
    stack.env = before
    await stack.remove("backup", "backups")


async def newest(stack: Stack) -> dict[str, Any] | None:
    """Of its dumps, if there is one."""
    for backup in await stack.containers("backup"):
        try:
            told = await stack.inside(backup, "backup", "status", "--to", "/backups")
        except CommandFailed:
            return None
        dump: dict[str, Any] = json.loads(told)["dump"]
        return dump
    return None


async def database_answers(stack: Stack) -> bool:
    """To others: while it makes a new volume its own, it listens to nobody."""
    for db in await stack.containers("db"):
        try:
            await stack.inside(db, "pg_isready", "--quiet", "--host=127.0.0.1")
        except CommandFailed:
            return False
        return True
    return False
