"""What it costs a posting to wait for a standby: on one machine with a real disk, and with a network between them."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.bench import delay_line, stage
from tests.bench.bench import Bench
from tests.bench.load import Work
from tests.bench.parts.postings import HOT, SPREAD, postings
from tests.bench.recorder import Recorder
from tests.bench.stage import Data, Stage
from tests.chaos.proxy import PORT_FILE
from tests.support.databases import as_owner, value_of
from tests.support.replication import replica_of
from tests.support.waiting import eventually

PART = "replication"
NOBODY, FLUSHED, REPLAYED = "nobody", "a standby's disk", "a standby's replay"
ONE_CLIENT = "one receipt, one client"
NEAR_WORK = (SPREAD, HOT, ONE_CLIENT)
FAR, FAR_ALONE = "one receipt, spread, over a network", "one receipt, one client, over a network"
MOVEMENTS = 50_000
WARM_SECONDS = 2.0
_ROUND_TRIPS = (0.0, 0.5, 2.0, 10.0)
_SERVER: dict[str, str | int] = {"max_connections": 150, "shared_buffers": "256MB", "max_wal_size": "8GB"}
"""As in the other parts, but it waits for the disk."""


class Way(NamedTuple):
    """Who is waited for: Postgres' settings, and the milliseconds that the network adds to a round trip."""

    name: str
    standbys: str = ""
    commit: str = "on"
    round_trip: float = 0.0


def over_network(milliseconds: float) -> str:
    return f"{FLUSHED}, {milliseconds:g} ms"


NEAR = (Way(NOBODY), Way(FLUSHED, "ANY 1 (*)"), Way(REPLAYED, "ANY 1 (*)", "remote_apply"))
DISTANT = (Way(NOBODY), *(Way(over_network(trip), "ANY 1 (*)", "on", trip) for trip in _ROUND_TRIPS))


NEAR_WAYS, DISTANT_WAYS = ([way.name for way in ways] for ways in (NEAR, DISTANT))

ABOUT = """
A primary with two streaming standbys and an instance, all on this machine and on its one disk, for which all of them
wait (`fsync=on`, unlike elsewhere on this page). The standbys are always there; what changes is whom a commit waits
for: nobody, one of the two until it is on its disk (`ANY 1`, `synchronous_commit=on`), or one of the two until it can
be read there (`remote_apply`). Three servers share here what each would have for itself on three machines, the disk
above all: only the network is missing.

Between machines, a posting takes what it takes without a standby, and one round trip, and the standby's wait for its
own disk: `t + round trip + flush`. Postings of different items wait side by side, so that more clients make up for it.
Those of one item wait one after the other, since its locks are kept until the standby has answered: there are at most
`1 / (t + round trip + flush)` of them a second. For the last tables, both standbys reach the primary through a program
that holds back every byte for half of the round trip, which is in the column's head; at 0 ms the program's own time is
left. Within one data centre a round trip takes 0.1 to 0.5 ms, between the zones of one region 0.5 to 2 ms.
"""


class Network(NamedTuple):
    """A directory that is the host of the primary for who is far away."""

    directory: Path
    process: "subprocess.Popen[str]"

    def delay(self, round_trip: float) -> None:
        """In milliseconds, from the next byte on."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{round_trip / 2000}\n")
        self.process.stdin.flush()


async def run(bench: Bench, recorder: Recorder) -> None:
    # not in memory; entered by the servers' own account
    with tempfile.TemporaryDirectory(prefix="erp-bench-", dir="/var/tmp") as place:
        directory = Path(place)
        directory.chmod(0o711)
        with postgres.running(directory / "primary", **_SERVER) as primary, _network(primary, directory) as network:
            recorder.say(f"making {MOVEMENTS:,} movements ...")
            data = await stage.make_data(primary, bench.directory, PART, MOVEMENTS)
            async with (
                replica_of(primary, directory / "one", fsync=True) as one,
                replica_of(primary, directory / "two", fsync=True) as two,
                stage.stage(primary, data, bench.directory) as ours,
            ):
                await _measure(bench, recorder, ours, network, (one, two))


async def _measure(
    bench: Bench, recorder: Recorder, ours: Stage, network: Network, standbys: Sequence[Cluster]
) -> None:
    work = _work(ours.data)
    await ours.caller.load(ours.ours, work[SPREAD], WARM_SECONDS)
    await _rounds(bench, recorder, ours, work, NEAR, lambda _: None)
    for standby in standbys:
        await _move(standby, network.directory)
    far = {FAR: work[SPREAD], FAR_ALONE: work[ONE_CLIENT]}
    await _rounds(bench, recorder, ours, far, DISTANT, network.delay)


def _work(data: Data) -> dict[str, Work]:
    singles = postings(data)
    return {SPREAD: singles[SPREAD], HOT: singles[HOT], ONE_CLIENT: singles[SPREAD]._replace(connections=1)}


async def _rounds(
    bench: Bench,
    recorder: Recorder,
    ours: Stage,
    work: dict[str, Work],
    ways: Sequence[Way],
    set_delay: Callable[[float], None],
) -> None:
    """All ways in turn within each round, there and back, each way with all its work."""
    for number in range(bench.sizes.rounds):
        recorder.say(f"round {number + 1} of {bench.sizes.rounds}, {len(ways)} ways")
        for way in ways if number % 2 == 0 else reversed(ways):
            set_delay(way.round_trip)
            await _wait_for(ours.cluster, way)
            for what, kind in work.items():
                with recorder.figure(what, way.name):
                    load = await ours.caller.load(ours.ours, kind, bench.sizes.seconds)
                    recorder.add_load(what, way.name, load)
    await _wait_for(ours.cluster, ways[0])


async def _wait_for(primary: Cluster, way: Way) -> None:
    """Returns when both standbys are connected and count as this way says."""
    await as_owner(
        primary,
        f"alter system set synchronous_standby_names = '{way.standbys}'",
        f"alter system set synchronous_commit = '{way.commit}'",
        "select pg_reload_conf()",
    )
    state = "quorum" if way.standbys else "async"
    counted = f"select count(*) = 2 from pg_stat_replication where state = 'streaming' and sync_state = '{state}'"
    await eventually(lambda: value_of(primary, counted), seconds=60)


async def _move(standby: Cluster, host: Path) -> None:
    """From now on it reaches the primary over the network."""
    await as_owner(
        standby,
        f"alter system set primary_conninfo = 'host={host} port=5432 user=postgres'",
        "select pg_reload_conf()",
    )
    there = f"select sender_host = '{host}' from pg_stat_wal_receiver where status = 'streaming'"
    await eventually(lambda: value_of(standby, there), seconds=60)


@contextlib.contextmanager
def _network(primary: Cluster, parent: Path) -> Iterator[Network]:
    directory = parent / "network"
    directory.mkdir(mode=0o755)
    command = [sys.executable, "-m", delay_line.__name__, directory / PORT_FILE, primary.socket_dir / PORT_FILE]
    with subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == delay_line.READY
            yield Network(directory, process)
        finally:
            process.kill()
