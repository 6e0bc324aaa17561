"""What is done to the cluster. Each fault ends when nothing is broken any more; the cluster may still be recovering."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from time import monotonic
from typing import NamedTuple

from tests.containers.silence import address, parted, silent
from tests.containers.stack import Service
from tests.failover.cluster import DATABASES, ETCD, Cluster, NoLeader, etcd_of
from tests.failover.journal import Journal
from tests.failover.probe import Probe
from tests.support.waiting import eventually

TTL = 20.0
"""Seconds after which the lease of a leader ends that cannot be renewed (ops/ha)."""
RESUMED_SECONDS = 120.0
"""A deadline: within it, writers go on."""
RESUMED = 20
"""Postings after which they do."""

SWITCHOVER_AIM, DEAD_PRIMARY_AIM = 5.0, 30.0
"""Seconds without writes."""


class Scene(NamedTuple):
    """What a fault works with; `said` is what it saw, for the table."""

    cluster: Cluster
    journal: Journal
    random: Random
    said: list[str]


Act = Callable[[Scene], Awaitable[None]]


class Fault(NamedTuple):
    """`aim` is how many seconds it may cost writers; None if it lasts as long as we let it."""

    name: str
    act: Act
    aim: float | None


async def switchover(scene: Scene) -> None:
    """To the standby that acknowledges, which has everything."""
    leader = await scene.cluster.leader()
    candidate, *_ = await scene.cluster.standbys()
    began = monotonic()
    await scene.cluster.switch_over(leader, candidate)
    await scene.cluster.until(partial(_leads, scene.cluster, candidate), seconds=60)
    scene.said.append(f"{leader} to {candidate}, known after {monotonic() - began:.1f} s")


async def kill_primary(scene: Scene) -> None:
    """Its container, and it stays away until another one leads and writers go on; then it must follow."""
    leader = await scene.cluster.leader()
    async with scene.cluster.away(leader):
        await _resumed(scene)
        scene.said.append(f"{leader} killed, {await scene.cluster.leader()} led")


async def crash_primary(scene: Scene) -> None:
    """Its container, which its restart policy starts again at once."""
    leader = await scene.cluster.leader()
    await scene.cluster.kill(await scene.cluster.one(leader))
    await _resumed(scene)
    scene.said.append(f"{leader} crashed, {await scene.cluster.leader()} leads")


async def kill_postgres(scene: Scene) -> None:
    """Only the server's own process: Patroni beside it lives."""
    leader = await scene.cluster.leader()
    await scene.cluster.kill_postmaster(leader)
    await _resumed(scene)
    scene.said.append(f"postmaster of {leader} killed, {await scene.cluster.leader()} leads")


async def silence_primary(scene: Scene) -> None:
    """The primary's host, with its etcd, sends and gets no packet. It must stop taking writes by itself, and nobody may
    have been told of one that is lost."""
    leader = await scene.cluster.leader()
    host = await scene.cluster.host_of(leader)
    async with silent(scene.cluster, *host), Probe(scene.cluster, leader).going_on() as probe:
        await _resumed(scene)
        await probe.refused()
    scene.said.append(f"{leader} silent: {probe.told()}")


async def part_primary_and_instance(scene: Scene) -> None:
    """As before, but one instance of the API is on the side of the old primary, and still gets requests: it reaches no
    other server. Whoever it answers must have been told the truth."""
    cluster = scene.cluster
    leader, api = await cluster.leader(), scene.random.choice(await cluster.containers("api"))
    few = [*await cluster.host_of(leader), await address(cluster, api, "back")]
    known = await cluster.name_servers()
    async with parted(cluster, *few, known=known), Probe(cluster, leader).going_on() as probe:
        await _resumed(scene)
        await probe.refused()
    scene.said.append(f"{leader} and {api.rpartition(cluster.project)[2].strip('_')} parted: {probe.told()}")


async def lose_old_primary_with_writes_of_its_own(scene: Scene) -> None:
    """It is silent, writes what nobody gets, and dies. When it comes back, these writes must go (pg_rewind)."""
    cluster = scene.cluster
    leader = await cluster.leader()
    async with silent(cluster, *await cluster.host_of(leader)), Probe(cluster, leader).going_on() as probe:
        await eventually(probe.hung, seconds=30)
        await cluster.stopped(leader)
    try:
        await _resumed(scene)
    finally:
        await cluster.started(leader)
    scene.said.append(f"{leader} wrote {probe.tried} of its own and died: {probe.told()}")


async def lose_one_etcd(scene: Scene) -> None:
    lost = scene.random.choice(DATABASES)
    before = await scene.cluster.leader()
    async with scene.cluster.away(etcd_of(lost)):
        await asyncio.sleep(TTL)
        await _resumed(scene)
        scene.said.append(f"{etcd_of(lost)} away; {await _changes(scene, before)}")


async def lose_all_etcd(scene: Scene) -> None:
    """For longer than the lease: in failsafe mode the leader goes on while it reaches all the other servers."""
    before = await scene.cluster.leader()
    async with scene.cluster.away(*ETCD):
        await asyncio.sleep(1.5 * TTL)
        await _resumed(scene)
        scene.said.append(f"no etcd for {1.5 * TTL:.0f} s; {await _changes(scene, before)}")


async def kill_standby(scene: Scene) -> None:
    """The one that acknowledges."""
    lost, *_ = await scene.cluster.standbys()
    async with scene.cluster.away(lost):
        await _resumed(scene)
    scene.said.append(f"{lost} killed")


async def lose_two_of_three(scene: Scene) -> None:
    """Two hosts, each with its etcd, in turn the leader's among them or not. The third must not lead alone for longer
    than its lease, and everything must be there when they come back."""
    cluster = scene.cluster
    left = scene.random.choice(DATABASES)
    lost = [service for service in DATABASES if service != left]
    was_leader = left == await cluster.leader()
    hosts = [*lost, *(etcd_of(service) for service in lost)]
    async with cluster.away(*hosts), Probe(cluster, left).going_on() as probe:
        await probe.refused()
        await asyncio.sleep(TTL)
    what = "which led" if was_leader else "which followed"
    scene.said.append(f"{left} left alone, {what}: {probe.told()}")


FAULTS: Sequence[Fault] = (
    Fault("switchover", switchover, SWITCHOVER_AIM),
    Fault("primary killed, and back", kill_primary, DEAD_PRIMARY_AIM),
    Fault("primary silent", silence_primary, DEAD_PRIMARY_AIM),
    Fault("primary and an instance parted", part_primary_and_instance, DEAD_PRIMARY_AIM),
    Fault("all etcd lost", lose_all_etcd, None),
    Fault("standby killed", kill_standby, None),
    Fault("postmaster killed", kill_postgres, DEAD_PRIMARY_AIM),
    Fault("old primary with own writes", lose_old_primary_with_writes_of_its_own, DEAD_PRIMARY_AIM),
    Fault("two of three lost", lose_two_of_three, None),
    Fault("primary crashed", crash_primary, DEAD_PRIMARY_AIM),
    Fault("one etcd lost", lose_one_etcd, None),
)
"""The most telling first: a short run has only these."""


def schedule(seed: int, count: int) -> list[Fault]:
    """So many faults, in an order from the seed. Each kind comes before one comes again."""
    random, chosen = Random(seed), list[Fault]()
    while len(chosen) < count:
        some = list(FAULTS[: count - len(chosen)])
        random.shuffle(some)
        chosen += some
    return chosen


async def _leads(cluster: Cluster, service: Service) -> bool:
    try:
        return await cluster.leader() == service
    except NoLeader:
        return False


async def _resumed(scene: Scene) -> None:
    """Postings that were sent after this moment have been acknowledged."""
    began = monotonic()

    async def enough() -> bool:
        return scene.journal.posted_since(began) >= RESUMED

    await eventually(enough, seconds=RESUMED_SECONDS)


async def _changes(scene: Scene, before: Service) -> str:
    now = await scene.cluster.leader()
    return f"{now} still led" if now == before else f"{now} led after {before}"
