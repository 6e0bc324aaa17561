"""Products of a shop, kept in step: many items a request, beside one a request over one connection."""

from typing import Any

from tests.bench.bench import Bench
from tests.bench.load import Call, NotMeasured, Work
from tests.bench.recorder import Recorder
from tests.bench.stage import Stage, answer, stage

PART = "sync"
NEW, CHANGED, SAME = "new items", "items with another name", "items that are the same"
BULK, ONE, SEARCHED = "1,000 a request", "one a request", "one at a time, looked up by its sku first"
ITEMS_RATE = "items/s"
MANY = 1000
API = "/api/v1/inventory/items"
_CALLS = 40
"""Of 1,000 new items each: more than there is time for in one round."""


async def run(bench: Bench, recorder: Recorder) -> None:
    data = await bench.main_data()
    async with stage(bench.cluster, data, bench.directory) as ours:
        await _bulk(ours, [_line(n, "kept") for n in range(4 * MANY)])
        for number in range(bench.sizes.rounds):
            recorder.say(f"round {number + 1} of {bench.sizes.rounds}")
            for what, ways in (await _works(ours, number)).items():
                for way, (work, size) in ways.items():
                    with recorder.figure(what, way):
                        load = await ours.caller.load(ours.ours, work, bench.sizes.seconds)
                        recorder.add(what, way, ITEMS_RATE, load.rate * size)


async def _works(ours: Stage, number: int) -> dict[str, dict[str, tuple[Work, float]]]:
    """By what is written and by which way, each with the number of items that one call writes. Of calls that are
    repeated, each differs from the one before of the same items, but for those that write nothing."""
    new = [_line(n, "new", prefix=f"N{number}-") for n in range(_CALLS * MANY)]
    kept = [_line(n, "kept") for n in range(MANY)]
    skus = {"skus": [line["sku"] for line in kept]}
    ids = [item["id"] for item in (await answer(ours, Call("POST", f"{API}/lookup", skus))).json()["items"]]
    renamed = [[_line(n, name, block=block) for n in range(MANY)] for name in ("one", "other") for block in range(4)]
    posts = [Call("POST", API, _line(n, "new", prefix=f"S{number}-")) for n in range(5000)]
    sought = [Call("POST", API, _line(n, "new", prefix=f"L{number}-")) for n in range(5000)]
    patches = [
        (line["sku"], Call("PATCH", f"{API}/{id_}", {"name": name}))
        for name in ("a", "b")
        for line, id_ in zip(kept, ids, strict=True)
    ]
    return {
        NEW: {
            BULK: (Work([_call(new[at : at + MANY]) for at in range(0, len(new), MANY)], 1, once=True), MANY),
            ONE: (Work(posts, 1, once=True), 1),
            SEARCHED: (
                Work([step for n, post in enumerate(sought) for step in (_search(f"L{number}-{n}"), post)], 1),
                0.5,
            ),
        },
        CHANGED: {
            BULK: (Work([_call(lines) for lines in renamed], 1), MANY),
            ONE: (Work([patch for _, patch in patches], 1), 1),
            SEARCHED: (Work([step for sku, patch in patches for step in (_search(sku), patch)], 1), 0.5),
        },
        SAME: {
            BULK: (Work([_call([{"sku": line["sku"], "unit": "pcs"} for line in kept])], 1), MANY),
            ONE: (Work([Call("PATCH", f"{API}/{i}", {"unit": "pcs"}) for i in ids], 1), 1),
        },
    }


def _line(n: int, name: str, *, prefix: str = "SYNC-", block: int = 0) -> dict[str, Any]:
    number = block * MANY + n
    return {
        "sku": f"{prefix}{number}",
        "name": f"Product {number}, {name}",
        "reorder_point": str(number % 100),
        "metadata": {"colour": "blue"},
    }


def _search(sku: str) -> Call:
    return Call("GET", f"{API}?sku={sku}")


def _call(lines: list[dict[str, Any]]) -> Call:
    return Call("POST", f"{API}/bulk", {"items": lines})


async def _bulk(ours: Stage, lines: list[dict[str, Any]]) -> None:
    for at in range(0, len(lines), MANY):
        written = (await answer(ours, _call(lines[at : at + MANY]))).json()
        if written["created"] != MANY:
            raise NotMeasured(f"of {MANY} new items {written['created']} were created")
