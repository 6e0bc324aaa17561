"""`make bench`: everything that is said about speed, measured in one run, beside the peers of tests/bench/peers.

All ways alternate in rounds, and ratios are taken within a round: so whatever else the machine does meets all of them.
Read the ratios; the figures themselves are this machine's."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from erp_service.standalone import postgres
from erp_service.standalone.postgres_directory import Setting
from tests.bench.bench import QUICK, WHOLE, Bench, Sizes
from tests.bench.parts import cost, exports, growth, mixed, postings, queue, reads

PARTS = {p.PART: p.run for p in (reads, postings, exports, queue, mixed, cost, growth)}
# Durability is off, since the speed of a disk would hide what the code costs: this is the stricter comparison.
SERVER: Mapping[str, Setting] = {
    "fsync": False,
    "max_connections": 100,
    "shared_preload_libraries": "pg_stat_statements",
}


async def run(parts: list[str], sizes: Sizes, out: Console) -> None:
    with tempfile.TemporaryDirectory(prefix="erp-bench-") as place:
        directory = Path(place)
        with postgres.running(directory / "postgres", **SERVER) as cluster:
            bench = Bench(cluster, directory, sizes, out)
            for part in parts:
                found = await PARTS[part](bench)
                for s in found.series:
                    out.print(s.key.what, s.key.way, s.key.unit, [round(v, 2) for v in s.values])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them, if none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes and short rounds: for the wiring alone")
    chosen = parser.parse_args()
    out = Console(width=None if sys.stdout.isatty() else 140)
    asyncio.run(run(chosen.parts or list(PARTS), QUICK if chosen.quick else WHOLE, out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
