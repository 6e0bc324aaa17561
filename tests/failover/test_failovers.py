"""Failovers of the profile `ha`, of each kind, under the load of two outside clients that go on meanwhile.

After each, everything that was acknowledged must be there exactly once, with no answer of 500 or the like; how long
each took stands in the table at the end, beside the aims. FAILOVERS and SEED choose how many, and in which order."""

import asyncio
import os
from collections.abc import Callable
from random import Random
from time import monotonic

import pytest

from tests.failover import checks
from tests.failover.clients import Client
from tests.failover.cluster import Cluster
from tests.failover.faults import Fault, Scene, schedule
from tests.failover.journal import ANSWERED_BY_OUTAGES, Journal, longest_gap
from tests.failover.rows import Row
from tests.support.waiting import eventually

SEED = int(os.environ.get("SEED") or 1)
FAILOVERS = int(os.environ.get("FAILOVERS") or 20)
WHOLE_SECONDS = 240.0
"""A deadline after a fault, also for a server that has to be copied again."""
CALM = 40
"""Postings before a fault and after it, when all is well."""

CHOSEN = list(enumerate(schedule(SEED, FAILOVERS), 1))


@pytest.mark.parametrize(
    ("number", "fault"), CHOSEN, ids=[f"{number}-{fault.name.replace(' ', '-')}" for number, fault in CHOSEN]
)
async def test_failover(
    cluster: Cluster,
    journal: Journal,
    clients: list[Client],
    table: list[Row],
    seen: Callable[[Row], None],
    number: int,
    fault: Fault,
) -> None:
    """Nothing is lost, nothing is doubled, nobody is told that the service is at fault, and the cluster gets whole."""
    await cluster.until(cluster.whole, seconds=WHOLE_SECONDS)
    await calm(journal)
    scene = Scene(cluster, journal, Random(f"{SEED}:{number}"), [])
    began = monotonic()
    await fault.act(scene)
    ended = monotonic()
    await cluster.until(cluster.whole, seconds=WHOLE_SECONDS)
    whole = monotonic()
    await calm(journal)
    started = sum(one.started_again for one in table)
    row = await figures(scene, number, fault, began, whole_after=whole - ended, started=started)
    seen(row)

    assert (row.books.lost, row.books.doubled, row.books.unexpected) == (0, 0, 0)
    assert row.verify == "holds"
    assert not row.failed
    statuses = row.statuses.keys() | row.report_statuses.keys()
    assert not [status for status in statuses if status >= 400 and status not in ANSWERED_BY_OUTAGES]
    assert not row.exports.faults
    assert not row.ticks
    assert all(client.is_alive for client in clients)


async def test_in_the_end_the_ledger_is_what_was_acknowledged(
    cluster: Cluster, journal: Journal, clients: list[Client]
) -> None:
    """With no request under way any more."""
    for client in clients:
        await client.end()
    books = await checks.books(cluster, journal)
    assert (books.lost, books.doubled, books.unexpected) == (0, 0, 0)
    assert books.acknowledged == len(journal.postings)
    assert not journal.unknown
    assert not (await checks.exports(cluster, journal)).faults


async def figures(scene: Scene, number: int, fault: Fault, began: float, *, whole_after: float, started: int) -> Row:
    cluster, journal = scene.cluster, scene.journal
    ended = monotonic()
    async with asyncio.TaskGroup() as group:
        archived_after = group.create_task(checks.archived(cluster))
        exports = group.create_task(checks.exports(cluster, journal))
        books = group.create_task(checks.books(cluster, journal))
        ticks = group.create_task(checks.ticks(cluster))
        verify = group.create_task(checks.verified(cluster))
    return Row(
        number=number,
        fault=fault.name,
        aim=fault.aim,
        said=scene.said,
        without_writes=longest_gap(journal.posted_at, began, ended),
        without_reads=longest_gap(journal.read_at, began, ended),
        without_reports=longest_gap(journal.reported_at, began, ended),
        whole_after=whole_after,
        posted=journal.posted_since(began),
        failed=journal.failed_since(began),
        statuses=journal.statuses(began, reports=False),
        report_statuses=journal.statuses(began, reports=True),
        books=books.result(),
        exports=exports.result(),
        started_again=exports.result().again - started,
        ticks=ticks.result(),
        verify=verify.result(),
        archived_after=archived_after.result(),
    )


async def calm(journal: Journal) -> None:
    """So many postings were acknowledged from now on, one soon after the other."""
    began = monotonic()

    async def enough() -> bool:
        return journal.posted_since(began) >= CALM

    await eventually(enough, seconds=60)
