"""A large export as COPYs of key ranges: the same bytes whatever the ranges, bounded memory, and all end together."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service.db.engine import Database
from erp_service.db.outages import is_unavailable
from erp_service.exports import lifecycle
from erp_service.exports.catalogue import DATASETS
from erp_service.exports.lifecycle import Run
from erp_service.exports.planning.selection import Spec, psql_text, query
from erp_service.exports.run import key_ranges
from erp_service.exports.run.connection import SnapshotConnection
from erp_service.exports.run.key_ranges import OrderedMerge, Ranges, rows_per_range, together
from erp_service.exports.run.output import Output
from erp_service.exports.run.snapshot import Splitting, open_snapshot
from erp_service.exports.run.watch import watch, while_watched
from erp_service.queue.attempts import JobAttempt
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.bench.measured import memory_of, reset_peak
from tests.chaos.proxy import running as proxied
from tests.exports.data import copies, fill, many_items
from tests.exports.jobs import JOBS, done, reaches, submitted
from tests.exports.storage.gated_store import GatedStore
from tests.support.clients import UserClient
from tests.support.psql import Psql
from tests.support.waiting import eventually
from tests.support.workers import Work

CSV = {"format": "csv", "encoding": "UTF8"}


SMALL_RANGES = Splitting(counted=50, range_bytes=1, fewest_rows=7)
"""Exports of more than 50 rows come in ranges of 7."""

LITTLE_HELD = Splitting(counted=20_000, held_bytes=256 * 1024)


async def test_parts_are_byte_for_byte_what_psql_writes(
    staff: UserClient, owner: asyncpg.Connection, work: Work, psql: Psql
) -> None:
    """With gaps between ids, wide rows, and line ends and quotes at the ends of ranges."""
    await fill(owner, staff.user_id, movements=600)
    await owner.execute("alter table stock_ledger disable trigger stock_ledger_append_only")
    await owner.execute("delete from stock_ledger where id % 11 = 0 or id between 200 and 320")
    await owner.execute("update stock_ledger set notes = repeat('wide, ', 20000) where id % 100 = 1")
    await owner.execute("analyze")
    async with work(splitting=SMALL_RANGES):
        job = await done(staff, "stock_movements")
    file = (await staff.get(f"{JOBS}/{job['id']}/download")).content
    assert file == psql(psql_text(DATASETS["stock_movements"]))
    assert job["result"]["rows"] == await owner.fetchval("select count(*) from stock_ledger")


ASKED = [
    ("stock_movements", Spec(), True),
    ("stock_movements", Spec(sort="-id"), True),
    ("stock_movements", Spec(filter={"from": "2020-03-02T00:00:00Z", "transaction_type": "ADJUSTMENT"}), True),
    ("stock_movements", Spec(filter={"reference_no": "$1 and {} and %s :name"}, columns=["notes"]), False),
    ("stock_levels", Spec(), True),
    ("stock_levels", Spec(filter={"location_id": 2}), True),
    ("items", Spec(filter={"include_deleted": True}), True),
    ("items", Spec(sort="id"), True),
    ("items", Spec(sort="name"), False),
]


async def test_every_question_has_the_same_answer_in_parts_and_as_one(
    settings: Settings, owner: asyncpg.Connection, user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(owner, user, movements=500)
    # one item at more places than a range has rows, and many items
    await owner.execute(
        "insert into items (sku, name, unit) select 'MORE-' || n, n::text, 'PCS' from generate_series(1, 100) n"
    )
    await owner.execute("insert into locations (code, name, location_type) select 'B' || n, 'B', 'BIN' from"
                        " generate_series(1, 60) n")  # fmt: skip
    await owner.execute(
        "insert into stock_balances (item_id, location_id, on_hand, value)"
        " select i.id, l.id, 1, i.id from items i, locations l where i.sku = 'MORE-9' or (l.id = 2 and i.id > 40)"
        " or (i.sku = 'MORE-40' and l.id % 2 = 0) on conflict do nothing"
    )
    await owner.execute("analyze")
    asked: list[int] = []
    counted = key_ranges.copy_ranges

    async def noted(readers: list[SnapshotConnection], *rest: object) -> int:
        asked.append(len(readers))
        return await counted(readers, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(key_ranges, "copy_ranges", noted)
    for dataset, spec, apart in ASKED:
        found = query(DATASETS[dataset], spec)
        alone, several = bytearray(), bytearray()
        async with open_snapshot(settings.listen_url, most_parts=1) as snapshot:
            rows = await snapshot.copy(found, into(alone), CSV)
        assert asked == []
        async with open_snapshot(settings.listen_url, most_parts=3, splitting=SMALL_RANGES) as snapshot:
            assert await snapshot.copy(found, into(several), CSV) == rows == snapshot.rows > 0, (dataset, spec)
            assert len(snapshot.backends) == (3 if apart else 1)
        assert several == alone, (dataset, spec)
        assert asked == [3] * apart, (dataset, spec)
        asked.clear()
    assert await copies(owner) == 0


def into(bytes_: bytearray) -> Callable[[bytes], Awaitable[None]]:
    async def sink(data: bytes) -> None:
        bytes_.extend(data)

    return sink


@pytest.mark.parametrize("descending", [False, True])
async def test_ranges_cover_each_key_once_whatever_the_gaps(
    descending: bool, settings: Settings, owner: asyncpg.Connection
) -> None:
    ids = [1, 2, 3, 50, 51, 1000, 1001, 1002, 1003, 2**40, 2**40 + 1]
    await owner.execute(
        "insert into items (id, sku, name, unit) overriding system value select n, n::text, 'x', 'PCS'"
        " from unnest($1::bigint[]) n",
        ids,
    )
    found = query(DATASETS["items"], Spec(columns=["id"], sort="-id" if descending else "id"))
    for rows in range(1, 13):
        async with open_snapshot(settings.listen_url, most_parts=1) as snapshot:
            reader, ranges = snapshot.readers[0], Ranges(found, rows)
            seen: list[int] = []
            while (part := await ranges.next(reader)) is not None:
                held = bytearray()
                assert await reader.copy(part, into(held), CSV) <= rows + 1
                seen += [int(line) for line in held.split()]
        assert seen == sorted(ids, reverse=descending)


def test_ranges_hold_few_wide_rows_or_many_narrow_ones() -> None:
    assert rows_per_range(0) == rows_per_range(1) == 50_000
    assert 1000 < rows_per_range(300) < 50_000
    assert rows_per_range(100_000) == 1000


Steps = st.lists(st.lists(st.binary(min_size=1, max_size=300), max_size=6), max_size=8)


@given(lanes=Steps, pauses=st.lists(st.integers(0, 3), max_size=40), held=st.integers(1, 1000))
async def test_lines_hand_on_every_byte_in_order_and_hold_no_more_than_they_may(
    lanes: list[list[bytes]], pauses: list[int], held: int
) -> None:
    line, out, waits = OrderedMerge(held), bytearray(), iter(pauses)
    most = 0

    async def slowly(data: bytes) -> None:
        for _ in range(next(waits, 0)):
            await asyncio.sleep(0)
        out.extend(data)

    async def feed(pieces: list[bytes], lane: key_ranges.RangeBuffer) -> None:
        nonlocal most
        for piece in pieces:
            for _ in range(next(waits, 0)):
                await asyncio.sleep(0)
            await line.put(lane, piece)
            most = max(most, line.bytes)
        line.end(lane)

    feeding = [feed(pieces, line.join()) for pieces in lanes]
    line.close()
    # a range that waits for room that never comes waits for ever
    async with asyncio.timeout(30):
        await together(line.drain(slowly), *feeding)
    assert out == b"".join(piece for pieces in lanes for piece in pieces)
    # each range may add one piece when the buffer is full, and the range whose turn it is may always add more
    assert most <= held + 300 * len(lanes) + 300 * 6


class Broken(Exception):
    pass


async def test_one_part_that_fails_stops_the_others_and_leaves_no_connection(
    settings: Settings, owner: asyncpg.Connection, user: int
) -> None:
    await fill(owner, user, movements=2000)
    await owner.execute("analyze")

    async def broken(_: bytes) -> None:
        raise Broken

    with pytest.raises(Broken):
        async with open_snapshot(settings.listen_url, most_parts=3, splitting=SMALL_RANGES) as snapshot:
            await snapshot.copy(query(DATASETS["stock_movements"], Spec()), broken, CSV)
    assert await copies(owner) == 0


async def test_part_whose_connection_is_lost_is_an_outage_and_leaves_no_connection(
    settings: Settings, owner: asyncpg.Connection, user: int
) -> None:
    await fill(owner, user, movements=2000)
    await owner.execute("analyze")
    killed = False

    async def kill(_: bytes) -> None:
        nonlocal killed
        if not killed and (killed := len(snapshot.backends) == 3):
            await owner.execute("select pg_terminate_backend($1)", snapshot.backends[2])

    lost = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
    with pytest.raises(lost) as caught:
        async with open_snapshot(settings.listen_url, most_parts=3, splitting=SMALL_RANGES) as snapshot:
            await snapshot.copy(query(DATASETS["stock_movements"], Spec()), kill, CSV)
    assert is_unavailable(caught.value)
    assert await copies(owner) == 0


async def test_export_goes_on_with_the_connections_there_are(
    settings: Settings,
    owner: asyncpg.Connection,
    user: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fill(owner, user, movements=300)
    await owner.execute("analyze")

    async def full(_: SnapshotConnection) -> SnapshotConnection:
        raise asyncpg.TooManyConnectionsError

    monkeypatch.setattr(SnapshotConnection, "open_another", full)
    held = bytearray()
    async with open_snapshot(settings.listen_url, most_parts=3, splitting=SMALL_RANGES) as snapshot:
        assert await snapshot.copy(query(DATASETS["stock_movements"], Spec()), into(held), CSV) == 300
        assert len(snapshot.backends) == 1


async def test_cancel_in_the_middle_of_any_part_stops_all_of_them(
    viewer: httpx.AsyncClient,
    owner: asyncpg.Connection,
    work: Work,
    store: object,
    settings: Settings,
) -> None:
    await many_items(owner)
    await owner.execute("analyze items")
    gated = GatedStore(store)  # type: ignore[arg-type]
    async with work(store=gated, splitting=LITTLE_HELD):
        export_id = await submitted(viewer)
        await gated.reached.wait()

        async def all_wait() -> bool:
            return await copies(owner) == await waiting(owner) == settings.export_parts

        # each is in the middle of its range: the first waits for the store, the others wait for their turn
        await eventually(all_wait)
        await viewer.post(f"{JOBS}/{export_id}/cancel")
        # the gate stays closed: a part that is not stopped waits for ever, and the export is never canceled
        await reaches(viewer, export_id, "canceled")
        assert await eventually(lambda: none(owner))
        gated.gate.set()
        assert (await done(viewer))["result"]["rows"] == 60_000


async def none(owner: asyncpg.Connection) -> bool:
    return await copies(owner) == 0


async def waiting(owner: asyncpg.Connection) -> int:
    return await owner.fetchval(  # type: ignore[no-any-return]
        "select count(*) from pg_stat_activity where application_name = 'erp export'"
        " and datname = current_database() and wait_event in ('ClientWrite', 'ClientRead')"
    )


async def no_advance(*_: object, **__: object) -> None:
    """For an attempt without a row."""


async def test_connection_that_hangs_in_any_part_is_noticed_and_one_that_waits_for_its_turn_is_not(
    settings: Settings,
    database: Database,
    cluster: Cluster,
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await many_items(owner)
    await owner.execute("analyze items")
    monkeypatch.setattr(lifecycle, "advance", no_advance)
    run, gate, reached, got = Run(UUID(int=1), JobAttempt(1, 1)), asyncio.Event(), asyncio.Event(), 0
    async with proxied(cluster.socket_dir) as proxy:

        async def sink(data: bytes) -> None:
            nonlocal got
            got += len(data)
            if got > 3_000_000 and not gate.is_set():
                reached.set()
                await gate.wait()
                proxy.hang()

        async with open_snapshot(proxy.url(settings.listen_url), most_parts=3, splitting=LITTLE_HELD) as snapshot:
            output = Output(sink)
            copying = snapshot.copy(query(DATASETS["items"], Spec()), output.write, CSV)
            watching = watch(database, run, snapshot=snapshot, output=output, every=0.1, silent=1.0)
            watched = asyncio.create_task(while_watched(copying, watching))
            await reached.wait()
            # All of them wait, and only for us. That is no silence, however long: here for more than twice `silent`
            done_, _ = await asyncio.wait([watched], timeout=2.5)
            assert not done_
            assert len(snapshot.backends) == 3
            gate.set()
            with pytest.raises(ConnectionError, match="hangs"):
                await asyncio.wait_for(watched, 20)
            await output.abandon()
            proxy.heal()
    assert await eventually(lambda: none(owner))


async def test_memory_does_not_grow_with_the_size_of_the_export(settings: Settings, owner: asyncpg.Connection) -> None:
    """Metabase and others run out of memory. 200 MB of rows, half of them in one stretch of wide rows, into a sink
    that is slower than Postgres."""
    await many_items(owner, 30_000)
    await owner.execute("alter table items alter column description set storage plain")
    await owner.execute("update items set description = repeat('wide ', 1000) where id between 10000 and 30000")
    await owner.execute("update items set description = repeat('wide ', 300) where id > 30000")
    await owner.execute("vacuum analyze items")
    size = 0

    async def slowly(data: bytes) -> None:
        nonlocal size
        size += len(data)
        await asyncio.sleep(0.001)

    pid = os.getpid()
    reset_peak(pid)
    before = memory_of(pid, "VmRSS")
    async with open_snapshot(settings.listen_url, most_parts=3, splitting=Splitting(counted=20_000)) as snapshot:
        output = Output(slowly)
        rows = await snapshot.copy(query(DATASETS["items"], Spec()), output.write, CSV)
        await output.finish()
        assert len(snapshot.backends) == 3
    assert rows == 30_000
    assert size > 100_000_000
    assert memory_of(pid) - before < 64
