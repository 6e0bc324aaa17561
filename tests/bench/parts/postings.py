"""Receipts, documents and reversals over HTTP, beside the same effect by pgbench."""

from datetime import datetime

from tests.bench.bench import Bench
from tests.bench.load import Call, Load, Work
from tests.bench.peers import pgbench
from tests.bench.recorder import RATE, Recorder
from tests.bench.records import OURS
from tests.bench.stage import LOCATIONS, Data, Stage, answer, stage

PART = "postings"
SPREAD, HOT = "one receipt, spread over the items", "one receipt, one hot item"
CROWD, REVERSAL = "one receipt, one hot item, 64 clients", "reversal of a receipt"
LINES, LINES_ALONE = "documents of 1,000 lines, two clients", "documents of 1,000 lines, one client"
STATEMENTS_1, STATEMENTS_10, STATEMENTS_1000 = "one receipt", "a document of 10 lines", "a document of 1,000 lines"
LINES_RATE, STATEMENTS = "lines/s", "statements"
API = "/api/v1/inventory/stock"
WARM_SECONDS = 1.0
_TRIES = 30
MANY = 1000
_TO_REVERSE = """
select t.id::text from stock_transactions t
where t.recorded_at >= $1 and t.reverses is null
  and not exists (select from stock_transactions r where r.reverses = t.id)
  and (select count(*) from stock_ledger l where l.transaction_id = t.id) = 1
"""
_CALLS = "select sum(calls)::int from pg_stat_statements where userid = 'erp_api'::regrole"


async def run(bench: Bench, recorder: Recorder) -> None:
    data = await bench.main_data()
    async with stage(bench.cluster, data, bench.directory) as ours:
        work = {**postings(data), LINES: documents(data, connections=2), LINES_ALONE: documents(data, connections=1)}
        for what, kind in work.items():
            with recorder.figure(what, OURS):
                await ours.caller.load(ours.ours, kind, WARM_SECONDS)
        for number in range(bench.sizes.rounds):
            recorder.say(f"round {number + 1} of {bench.sizes.rounds}")
            await _round(bench, ours, work, recorder)
        fewest = 0
        for what, call in (
            (STATEMENTS_1, _receipt(1)),
            (STATEMENTS_10, _document(10)),
            (STATEMENTS_1000, _document(MANY)),
        ):
            with recorder.figure(what, OURS):
                fewest = await statements(ours, call, least=fewest)
                recorder.add(what, OURS, STATEMENTS, fewest)


async def _round(bench: Bench, ours: Stage, work: dict[str, Work], recorder: Recorder) -> None:
    seconds, data = bench.sizes.seconds, ours.data
    since = await now(ours)
    for what, kind in work.items():
        with recorder.figure(what, OURS):
            load = await ours.caller.load(ours.ours, kind, seconds)
            recorder.add_load(what, OURS, load)
            if what in (LINES, LINES_ALONE):
                recorder.add(what, OURS, LINES_RATE, load.rate * MANY)
        if what in (SPREAD, HOT):
            with recorder.figure(what, pgbench.PGBENCH):
                items = data.items if what == SPREAD else 1
                recorder.add(
                    what, pgbench.PGBENCH, RATE, await pgbench.receipts(bench.cluster, data, seconds, items=items)
                )
    with recorder.figure(REVERSAL, OURS):
        recorder.add_load(REVERSAL, OURS, await reversals(ours, since, seconds))


def postings(data: Data) -> dict[str, Work]:
    """Single receipts, by their names. Each place that is posted to has stock already."""
    hot = [_receipt(1)]
    return {
        SPREAD: Work([_receipt(1 + n * 7 % data.items) for n in range(5000)], keyed=True),
        HOT: Work(hot, keyed=True),
        CROWD: Work(hot, connections=64, keyed=True),
    }


def _receipt(item: int) -> Call:
    body = {"item_id": item, "location_id": 1 + (item - 1) % LOCATIONS, "quantity": "1", "unit_cost": "2.5"}
    return Call("POST", f"{API}/in", body)


def documents(data: Data, *, connections: int) -> Work:
    """Documents of 1,000 lines that share no balance: what they wait for is not each other."""
    blocks = max(1, min(4, data.items // MANY))
    calls = [_document(MANY, first=block * MANY, shift=shift) for shift in range(LOCATIONS) for block in range(blocks)]
    return Work(calls, connections=connections, keyed=True, least_seconds=4)


def _document(lines: int, first: int = 0, shift: int = 0) -> Call:
    places = [(item, 1 + (item + shift) % LOCATIONS) for item in range(first, first + lines)]
    movements = [
        {
            "transaction_type": "IN",
            "item_id": 1 + item,
            "location_id": location,
            "quantity": "1",
            "unit_cost": "2.5",
            "reference_no": "PO-2041",
        }
        for item, location in places
    ]
    return Call("POST", f"{API}/movements", {"movements": movements})


async def now(ours: Stage) -> datetime:
    async with ours.sql() as connection:
        moment: datetime = await connection.fetchval("select clock_timestamp()")
    return moment


async def reversals(ours: Stage, since: datetime, seconds: float) -> Load:
    """Reverses receipts that were posted since then, each once."""
    async with ours.sql() as connection:
        ids = [row[0] for row in await connection.fetch(_TO_REVERSE, since)]
    calls = [Call("POST", f"{API}/transactions/{id_}/reverse", {"reason": "counted twice"}) for id_ in ids]
    return await ours.caller.load(ours.ours, Work(calls, keyed=True, once=True), seconds)


async def statements(ours: Stage, call: Call, *, least: int) -> int:
    """Statements that the instance sends for one request with an Idempotency-Key, begin and commit among them. The
    fewest of several, since its listener asks every two seconds whether its connection lives; no more are tried once
    there were only `least`."""
    async with ours.sql() as connection:
        await connection.execute("create extension if not exists pg_stat_statements")
        await connection.execute("alter system set pg_stat_statements.track = 'top'")
        await connection.execute("select pg_reload_conf()")
        fewest = 0
        for _ in range(_TRIES):
            await connection.execute("select pg_stat_statements_reset()")
            await answer(ours, call, keyed=True)
            count = await connection.fetchval(_CALLS) or 0
            fewest = min(fewest or count, count)
            if fewest <= least:
                break
        await connection.execute("alter system set pg_stat_statements.track = 'none'")
        await connection.execute("select pg_reload_conf()")
    return fewest
