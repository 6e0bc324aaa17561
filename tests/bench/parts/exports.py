"""A large export, from its submission over HTTP until it can be downloaded, beside `psql \\copy` of the same query.

`make bench-exports` measures every format and compression."""

from tests.bench import exports as files
from tests.bench.bench import Bench
from tests.bench.exports import Way
from tests.bench.measured import Taken
from tests.bench.recorder import Recorder
from tests.bench.records import OURS
from tests.bench.stage import stage

PART = "exports"
EXPORT = "the ledger as CSV"
PSQL, ONE_PART, TWO_PARTS = files.PSQL, f"{OURS}, one part", f"{OURS}, two parts"
SECONDS, CPU_SECONDS, SERVER_SECONDS, PEAK = "s", "CPU s", "Postgres CPU s", "peak MiB"


async def run(bench: Bench, recorder: Recorder) -> None:
    data = await bench.main_data()
    async with stage(bench.cluster, data, bench.directory) as ours:
        here = files.Bench(bench.cluster, data.settings, ours.server, ours.client, bench.directory)
        await files.by_psql(here)
        for number in range(bench.sizes.rounds):
            recorder.say(f"round {number + 1} of {bench.sizes.rounds}")
            _add(recorder, PSQL, await files.by_psql(here))
            for name, parts in ((ONE_PART, 1), (TWO_PARTS, 2)):
                _add(recorder, name, await files.by_export(here, Way("csv", "none", parts)))


def _add(recorder: Recorder, way: str, taken: Taken) -> None:
    for unit, value in (
        (SECONDS, taken.seconds),
        (CPU_SECONDS, taken.cpu),
        (SERVER_SECONDS, taken.server_cpu),
        (PEAK, taken.memory),
    ):
        recorder.add(EXPORT, way, unit, value)
