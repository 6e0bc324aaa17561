"""The progress of a running export never goes back and never gets stuck, and its ETA converges."""

import math
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erp_service.db.engine import Database
from erp_service.exports import lifecycle
from erp_service.exports.eta import MEMORY, Pace, eta_seconds, percent
from erp_service.exports.lifecycle import Run
from erp_service.exports.storage.base import Store
from tests.exports.attempts import MOST, NOON, advanced, again, begun
from tests.exports.data import many_items
from tests.exports.jobs import JOBS, reaches, submitted
from tests.exports.storage.gated_store import GatedStore
from tests.support.waiting import eventually
from tests.support.workers import Work

ROWS = st.integers(0, 2_000_000_000)


@given(st.lists(ROWS, min_size=1, max_size=30), st.integers(0, 1_000_000_000), st.booleans())
@example([0, 1, 10, 100, 1000, 10_000, 1_000_000], 100, True)
def test_percent_only_grows_with_the_rows_and_leaves_the_end_to_the_file(
    rows: list[int], total: int, is_estimate: bool
) -> None:
    said = [percent(rows_done=n, rows_total=total, is_estimate=is_estimate) for n in sorted(rows)]
    assert said == sorted(said)
    assert all(0 <= one <= 99.9 for one in said)


@pytest.mark.parametrize("is_estimate", [True, False])
def test_percent_is_the_plain_share_while_the_total_can_be_believed(is_estimate: bool) -> None:
    said = [percent(rows_done=n, rows_total=1000, is_estimate=is_estimate) for n in (0, 1, 335, 500, 899)]
    assert said == [0, 0.1, 33.5, 50, 89.9]


def test_percent_does_not_stick_at_99_when_the_estimate_was_far_too_low() -> None:
    """Ten times as many rows as the planner expected: the percentage keeps rising, and does not reach the end early."""
    said = [percent(rows_done=n, rows_total=1000, is_estimate=True) for n in (1000, 1500, 2500, 5000, 10_000)]
    assert said == sorted(set(said))
    assert said[0] == 95
    assert said[-1] < 99.9


def test_exact_total_says_all_but_the_end_when_all_rows_are_there() -> None:
    assert percent(rows_done=1000, rows_total=1000, is_estimate=False) == 99.9
    assert percent(rows_done=9_999_999, rows_total=10_000_000, is_estimate=False) == 99.9


@given(
    rate=st.floats(1, 5_000_000),
    steps=st.lists(st.floats(0.05, 3), min_size=1, max_size=50),
    left=st.integers(0, 1_000_000_000),
)
def test_eta_of_a_steady_rate_is_right_from_the_second_look_on(rate: float, steps: list[float], left: int) -> None:
    pace, done = Pace(), 1
    for seconds in steps:
        rows = max(round(rate * seconds), 1)
        pace, done = pace.onward(rows=rows, seconds=rows / rate), done + rows
        eta = eta_seconds(pace, rows_done=done, rows_total=done + left, is_estimate=False)
        assert eta is not None
        assert abs(eta - left / rate) <= 1 + 1e-6 * left / rate


@given(before=st.floats(10, 1_000_000), after=st.floats(10, 1_000_000))
@example(before=1_000_000, after=10)
@example(before=10, after=1_000_000)
def test_eta_converges_after_a_change_of_the_rate(before: float, after: float) -> None:
    """As fast as the old rate is forgotten: by a factor of e in each MEMORY."""
    pace = Pace()
    for rate in (before, after):
        for _ in range(200):
            pace = pace.onward(rows=round(rate / 2), seconds=round(rate / 2) / rate)
    apart = 2 * max(before / after, 1) * math.exp(-100 / MEMORY)
    assert pace.rows / pace.seconds == pytest.approx(after, rel=apart + 1e-6)


def test_eta_is_unknown_and_not_zero_before_there_is_a_rate() -> None:
    assert eta_seconds(Pace(), rows_done=0, rows_total=10, is_estimate=False) is None
    assert eta_seconds(Pace(), rows_done=5, rows_total=10, is_estimate=False) is None
    assert eta_seconds(Pace(0, 3), rows_done=5, rows_total=10, is_estimate=False) is None


@pytest.fixture
async def run(viewer: httpx.AsyncClient, database: Database, owner: asyncpg.Connection) -> Run:
    """A running export of about a thousand rows, advanced by the test."""
    run = await begun(viewer, database, owner)
    await totalled(database, run, 1000, is_estimate=True)
    return run


async def totalled(database: Database, run: Run, rows: int, *, is_estimate: bool) -> None:
    async with database.write() as db:
        await lifecycle.begin_copy(db, run, snapshot_at=NOON, rows_total=rows, rows_total_is_estimate=is_estimate)


async def said(client: httpx.AsyncClient, run: Run) -> dict[str, Any]:
    progress: dict[str, Any] = (await client.get(f"{JOBS}/{run.id}")).json()["progress"]
    return progress


async def test_progress_does_not_go_back_when_the_total_becomes_exact_and_is_larger(
    viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    await advanced(database, run, 800)
    assert (await said(viewer, run))["percent"] == 80
    await totalled(database, run, 4000, is_estimate=False)
    await advanced(database, run, 900)
    now = await said(viewer, run)
    assert (now["rows_done"], now["rows_total"], now["rows_total_is_estimate"]) == (900, 4000, False)
    assert now["percent"] == 80
    await advanced(database, run, 3600)
    assert (await said(viewer, run))["percent"] == 90


async def test_late_look_of_a_slow_watcher_takes_no_rows_and_bytes_back(
    viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    await advanced(database, run, 500)
    before = await said(viewer, run)
    await advanced(database, run, 400)
    assert await said(viewer, run) == before


async def test_more_rows_than_were_estimated_are_never_more_than_all(
    viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    await advanced(database, run, 3000)
    now = await said(viewer, run)
    assert (now["rows_done"], now["rows_total"], now["rows_total_is_estimate"]) == (3000, 3000, True)
    assert 95 < now["percent"] < 99.9


async def test_same_row_always_says_the_same(viewer: httpx.AsyncClient, database: Database, run: Run) -> None:
    for rows in (100, 200, 300):
        await advanced(database, run, rows)
    first = await viewer.get(f"{JOBS}/{run.id}")
    assert first.json()["progress"]["eta_seconds"] is not None
    assert (await viewer.get(f"{JOBS}/{run.id}")).json() == first.json()


async def test_time_before_the_first_rows_counts_for_no_eta(
    viewer: httpx.AsyncClient, database: Database, run: Run, owner: asyncpg.Connection
) -> None:
    """Postgres sorted for ten minutes; then the rows come fast."""

    async def later(seconds: int) -> None:
        await owner.execute("update export_jobs set progress_at = progress_at - make_interval(secs => $1)", seconds)

    await later(600)
    await advanced(database, run, 100)
    assert (await said(viewer, run))["eta_seconds"] is None
    await later(1)
    await advanced(database, run, 200)
    eta = (await said(viewer, run))["eta_seconds"]
    assert 7 <= eta <= 30  # eight seconds, and what a loaded machine adds to the one


async def test_new_attempt_begins_at_nothing_and_says_so(
    viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    await advanced(database, run, 800)
    async with database.write() as db:
        assert await lifecycle.claim(db, again(run), most_running=MOST)
    job = (await viewer.get(f"{JOBS}/{run.id}")).json()
    nothing = {"rows_done": 0, "rows_total": None, "rows_total_is_estimate": False, "bytes": 0}
    assert (job["attempt"], job["progress"]) == (2, nothing | {"percent": None, "eta_seconds": None})


async def test_export_that_waits_again_after_a_drain_promises_no_time(
    viewer: httpx.AsyncClient, database: Database, run: Run
) -> None:
    for rows in (100, 200, 300):
        await advanced(database, run, rows)
    async with database.write() as db:
        assert await lifecycle.requeue(db, run, most_running=MOST)
    assert (await said(viewer, run))["eta_seconds"] is None


async def test_progress_of_a_real_copy_grows_to_a_hundred(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work, store: Store
) -> None:
    """Progress is not 0 until the end: the COPY is stopped in the middle, and has reported its rows."""
    await many_items(owner)
    gated = GatedStore(store)
    async with work(store=gated):
        export_id = await submitted(viewer)
        await gated.reached.wait()

        async def some() -> dict[str, Any] | None:
            job = (await viewer.get(f"{JOBS}/{export_id}")).json()
            return job if job["progress"]["rows_done"] else None

        job = await eventually(some)
        assert job is not None
        assert 0 < job["progress"]["percent"] < 100
        assert (job["progress"]["rows_total"], job["progress"]["rows_total_is_estimate"]) == (60_000, False)
        gated.gate.set()
        progress = (await reaches(viewer, export_id, "succeeded"))["progress"]
    assert (progress["rows_done"], progress["percent"], progress["eta_seconds"]) == (60_000, 100, 0)
