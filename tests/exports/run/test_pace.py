"""Exports give way to other work, where there is some and cores are short, and are as fast as ever where not."""

from itertools import pairwise

import asyncpg
import pytest

from erp_service.db.engine import Database
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.planning.selection import Spec, query
from erp_service.exports.run.pace import Counters, Pace, look
from erp_service.exports.run.snapshot import open_snapshot
from erp_service.settings import Settings

QUIET, OTHERS = 50, 400
"""Transactions a second: of a lone export with its worker and a client that polls, and of people at work."""


def after(*seconds: tuple[int, float]) -> Pace:
    """The pace after so many seconds, each with transactions and with the idle part of the processors' time."""
    pace = Pace()
    at, transactions, idle = 0.0, 0, 0.0
    pace.observe(Counters(at, transactions, 0, 0))
    for more, spare in seconds:
        at, transactions, idle = at + 1, transactions + more, idle + 200 * spare
        pace.observe(Counters(at, transactions, int(idle), int(200 * at)))
    return pace


def test_export_alone_takes_all_cores() -> None:
    assert not after((QUIET, 0.0), (QUIET, 0.0)).gives_way


def test_export_beside_others_takes_the_cores_that_they_leave() -> None:
    assert not after((OTHERS, 0.5), (OTHERS, 0.2)).gives_way


def test_export_gives_way_to_others_who_have_no_core_left() -> None:
    assert after((OTHERS, 0.0), (OTHERS, 0.0)).gives_way


def test_short_burst_such_as_the_start_of_a_worker_slows_nothing() -> None:
    assert not after((OTHERS, 0.0), (QUIET, 0.0), (OTHERS, 0.0)).gives_way


def test_idle_time_that_giving_way_leaves_does_not_end_it() -> None:
    assert after((OTHERS, 0.0), (OTHERS, 0.0), (OTHERS, 0.6), (OTHERS, 0.6)).gives_way


def test_export_goes_on_at_full_speed_when_the_others_have_gone() -> None:
    assert not after((OTHERS, 0.0), (OTHERS, 0.0), (QUIET, 0.6)).gives_way


def test_counters_that_begin_anew_decide_nothing() -> None:
    pace = after((OTHERS, 0.0), (OTHERS, 0.0))
    # as after a restart of the host or a reset of the server's statistics
    pace.observe(Counters(3.0, 0, 0, 0))
    assert pace.gives_way
    pace.observe(Counters(4.0, QUIET, 0, 200))
    assert not pace.gives_way


class NotedPace(Pace):
    """Counts the rests instead of taking them."""

    def __init__(self) -> None:
        super().__init__()
        self.worked: list[float] = []

    async def rest(self, worked: float, *, connections: int) -> None:
        self.worked.append(worked)


@pytest.mark.parametrize("gives_way", [False, True])
async def test_file_is_the_same_whether_it_gives_way_or_not(
    gives_way: bool, settings: Settings, owner: asyncpg.Connection
) -> None:
    await owner.execute("insert into items (sku, name, unit) select n, n, 'PCS' from generate_series(1, 3000) n")
    pace, noted = Pace(), NotedPace()
    pace.gives_way = gives_way
    files = []
    for each in (pace, noted):
        file = bytearray()

        async def sink(data: bytes, file: bytearray = file) -> None:
            file.extend(data)

        async with open_snapshot(settings.listen_url, most_parts=1, pace=each) as snapshot:
            assert await snapshot.copy(query(DATASETS["items"], Spec()), sink, {"format": "csv"}) == 3000
        files.append(bytes(file))
    assert files[0] == files[1]
    assert noted.worked
    assert all(worked >= 0 for worked in noted.worked)


async def test_look_reads_counters_that_grow(database: Database) -> None:
    class Kept(Pace):
        def observe(self, now: Counters) -> None:
            kept.append(now)

    kept: list[Counters] = []
    for _ in range(2):
        await look(Kept(), database)
    for earlier, later in pairwise(kept):
        assert later.at > earlier.at
        assert later.transactions >= earlier.transactions > 0
        assert later.cpu >= later.idle >= earlier.idle > 0
