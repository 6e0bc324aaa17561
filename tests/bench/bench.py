"""What all parts of a run share: the cluster, the sizes, and the databases made so far."""

from pathlib import Path

import asyncpg
import msgspec
from rich.console import Console

from erp_service.standalone.postgres import Cluster
from tests.bench import stage
from tests.bench.recorder import Recorder
from tests.bench.stage import Data

CACHE = Path(__file__).parents[2] / ".bench"
"""Virtual environments of the peers, and the results of quick runs. Git ignores it."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    rows: int
    """Movements in the database of most parts."""
    rounds: int
    seconds: float
    """Of one load in one round."""
    deep_page: int
    """The ledger page that is compared with the first one."""
    ledgers: dict[str, tuple[int, int]]
    """Movements and items of the databases whose growth is compared, smallest first."""
    waiting: int
    finished: int
    """Exports that wait, and that have ended, of the database with a long past."""
    running: int = 20
    """Exports of one user that run at once, in the queue's part."""
    exports: int
    """Exports in one round of that part."""
    tryton_moves: int
    """Moves of the product whose quantity Tryton reads."""

    def described(self) -> dict[str, str]:
        """For the page."""
        ledgers = (f"{name} {rows:,} of {items:,} items" for name, (rows, items) in self.ledgers.items())
        return {
            "movements": f"{self.rows:,} of {stage.ITEMS:,} items at {stage.LOCATIONS} locations",
            "rounds": f"{self.rounds} of {self.seconds:g} s for each figure",
            "deep page": f"{self.deep_page:,}, of 50 rows, or the last one",
            "growth": ", ".join(ledgers),
            "long past": f"{self.waiting:,} exports wait, {self.finished:,} have ended",
        }


WHOLE = Sizes(
    rows=545_867,
    rounds=4,
    seconds=2,
    deep_page=10_000,
    ledgers={"small": (10_000, 4_000), "middle": (1_000_000, 4_000), "large": (10_000_000, 100_000)},
    waiting=10_000,
    finished=1_000_000,
    exports=30,
    tryton_moves=10_000,
)
QUICK = Sizes(
    rows=60_000,
    rounds=1,
    seconds=1,
    deep_page=1_000,
    ledgers={"small": (10_000, 4_000), "large": (200_000, 10_000)},
    waiting=1_000,
    finished=50_000,
    exports=10,
    tryton_moves=1_000,
)


class Bench:
    def __init__(self, cluster: Cluster, directory: Path, sizes: Sizes, out: Console) -> None:
        self.cluster, self.directory, self.sizes, self._out = cluster, directory, sizes, out
        self._data: dict[str, Data] = {}

    def recorder(self, part: str) -> Recorder:
        return Recorder(part, self._out)

    async def quiet_statistics(self) -> None:
        """Postgres counts statements only where that is what is measured."""
        connection = await asyncpg.connect(self.cluster.owner_url("postgres"))
        try:
            await connection.execute("alter system set pg_stat_statements.track = 'none'")
            await connection.execute("select pg_reload_conf()")
        finally:
            await connection.close()

    async def main_data(self) -> Data:
        return await self.data("bench", self.sizes.rows)

    async def data(self, name: str, rows: int, items: int = stage.ITEMS) -> Data:
        """The database of this name, made at its first use."""
        if name not in self._data:
            self._out.print(f"making {rows:,} movements of {items:,} items ...")
            self._data[name] = await stage.make_data(self.cluster, self.directory, name, rows, items)
        return self._data[name]
