"""Moves and quantities beside Tryton, an ERP in the same language on the same Postgres."""

import asyncio

from tests.bench.bench import Bench
from tests.bench.environments import versions_in
from tests.bench.load import Call, Work
from tests.bench.parts.postings import MANY, documents, postings
from tests.bench.parts.postings import SPREAD as RECEIPT
from tests.bench.parts.reads import API
from tests.bench.peers.tryton import TRYTON, Tryton, environment, tryton
from tests.bench.recorder import Recorder
from tests.bench.records import OURS
from tests.bench.stage import Stage, stage

PART = "tryton"
ONE, THOUSAND = "one move in a transaction", "1,000 moves in a transaction"
MOVES_RATE, READS_RATE = "moves/s", "reads/s"
QUANTITY = "the quantity of one item at one location"
ABOUT = """
Ours are requests over HTTP with JSON, a token, an Idempotency-Key and an audit entry, from one client. Tryton's are
calls in its own process, without HTTP, JSON or access rights, one after the other: `Move.create` and `Move.do` with a
commit. Tryton does more for each move: states with their transitions, units that convert, companies and currencies, an
average cost kept for the company, fields that modules add. It keeps no balance: a quantity is a sum over moves, which
it can take at any date and over any locations, while ours is one row that each posting locks.
"""


async def run(bench: Bench, recorder: Recorder) -> None:
    python = await asyncio.to_thread(environment)
    recorder.versions |= await asyncio.to_thread(versions_in, python, "trytond", "trytond_stock")
    data = await bench.main_data()
    recorder.say("making its database")
    async with (
        tryton(python, bench.cluster, bench.directory) as peer,
        stage(bench.cluster, data, bench.directory) as ours,
    ):
        await peer.fill(bench.sizes.tryton_moves)
        recorder.note(f"the quantity that Tryton reads is of a product with {bench.sizes.tryton_moves:,} moves")
        work = {
            ONE: postings(data)[RECEIPT]._replace(connections=1),
            THOUSAND: documents(data, connections=1),
            QUANTITY: Work([Call("GET", f"{API}/stock/current?item_id=1&location_id=1")], connections=1),
        }
        for number in range(bench.sizes.rounds):
            recorder.say(f"round {number + 1} of {bench.sizes.rounds}")
            await _round(ours, peer, work, bench.sizes.seconds, recorder)


async def _round(ours: Stage, peer: Tryton, work: dict[str, Work], seconds: float, recorder: Recorder) -> None:
    for what, lines in ((ONE, 1), (THOUSAND, MANY)):
        with recorder.figure(what, OURS):
            load = await ours.caller.load(ours.ours, work[what], 2 * seconds)
            recorder.add(what, OURS, MOVES_RATE, load.rate * lines)
        with recorder.figure(what, TRYTON):
            recorder.add(what, TRYTON, MOVES_RATE, await peer.moves(2 * seconds, lines=lines, products=1000))
    with recorder.figure(QUANTITY, OURS):
        recorder.add(QUANTITY, OURS, READS_RATE, (await ours.caller.load(ours.ours, work[QUANTITY], seconds)).rate)
    with recorder.figure(QUANTITY, TRYTON):
        recorder.add(QUANTITY, TRYTON, READS_RATE, await peer.quantities(seconds))
