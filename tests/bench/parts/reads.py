"""Reads of one instance beside a bare driver and beside what people write without thinking of speed."""

import base64
import contextlib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec

from tests.bench.bench import Bench
from tests.bench.load import Call, NotMeasured, Target, Work
from tests.bench.peers.web import BARE, PEOPLE, peer
from tests.bench.recorder import Recorder
from tests.bench.stage import Stage, answer, stage

PART = "reads"
ITEM, ITEMS, LIVE = "item by id", "50 items", "/health/live"
STOCK, LEDGER, DEEP, JOB = "current stock, 50", "ledger, 50, page 1", "ledger, 50, a deep page", "a job's status"
API = "/api/v1/inventory"
PAGE = 50
WARM_SECONDS = 1.0


async def run(bench: Bench, recorder: Recorder) -> None:
    data = await bench.main_data()
    async with stage(bench.cluster, data, bench.directory) as ours, contextlib.AsyncExitStack() as stack:
        calls = await reads(ours, bench.sizes.deep_page)
        work: list[tuple[str, Target, Work]] = [(what, ours.ours, calls[what]) for what in calls]
        for name, shared in ((BARE, (ITEM, ITEMS, LIVE)), (PEOPLE, (ITEM, ITEMS))):
            target = await stack.enter_async_context(peer(name, data, bench.directory))
            work += [(what, target, calls[what]) for what in shared]
        work.sort(key=lambda one: list(calls).index(one[0]))
        for what, target, kind in work:
            with recorder.figure(what, target.way):
                await _check(ours, target, kind.calls[0])
                await ours.caller.load(target, kind, WARM_SECONDS)
        for number in range(bench.sizes.rounds):
            recorder.say(f"round {number + 1} of {bench.sizes.rounds}")
            for what, target, kind in work:
                with recorder.figure(what, target.way):
                    recorder.add_load(what, target.way, await ours.caller.load(target, kind, bench.sizes.seconds))


async def reads(ours: Stage, deep_page: int) -> dict[str, Work]:
    """What is read, by its name. Single items are spread over all of them."""
    items = [Call("GET", f"{API}/items/{1 + n * 7 % ours.data.items}") for n in range(1000)]
    ledger = f"{API}/stock/ledger?limit={PAGE}"
    job = (await answer(ours, Call("POST", "/api/v1/exports/jobs", {"dataset": "items", "force_new": True}))).json()
    return {
        ITEM: Work(items),
        ITEMS: Work([Call("GET", f"{API}/items?limit={PAGE}")]),
        LIVE: Work([Call("GET", LIVE)]),
        STOCK: Work([Call("GET", f"{API}/stock/current?limit={PAGE}")]),
        LEDGER: Work([Call("GET", ledger)]),
        DEEP: Work([Call("GET", f"{ledger}&cursor={await ledger_cursor(ours, deep_page)}")]),
        JOB: Work([Call("GET", f"/api/v1/exports/jobs/{job['id']}")]),
    }


async def ledger_cursor(ours: Stage, page: int) -> str:
    """For the page of this number, or for the last whole one: what the pages before it would have led to."""
    depth = min((page - 1) * PAGE, ours.data.rows - 2 * PAGE)
    async with ours.sql() as connection:
        last = await connection.fetchval("select id from stock_ledger order by id desc offset $1 limit 1", depth - 1)
    values = msgspec.json.encode([["id"], [last]])
    return base64.urlsafe_b64encode(values).rstrip(b"=").decode()


async def _check(ours: Stage, target: Target, call: Call) -> None:
    """The answer is the same as the service's, but for the form of numbers and of cursors."""
    if not _same((await answer(ours, call, target.url)).json(), (await answer(ours, call)).json()):
        raise NotMeasured(f"{target.way} answers {call.path} with something else")


def _same(one: object, other: object) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one if k != "next_cursor")
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or (_number(one) is not None and _number(one) == _number(other))


def _number(value: object) -> Decimal | None:
    with contextlib.suppress(InvalidOperation):
        return Decimal(value) if isinstance(value, str) else None
    return None
