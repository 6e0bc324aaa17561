"""Reads every proof of `erp verify` from one snapshot, ten times a second, while clients post and processes die."""

import asyncio
from time import monotonic

import asyncpg
import msgspec
from msgspec import Struct

from erp_service.db.connections import connect
from erp_service.db.outages import DATABASE_ERRORS, is_unavailable
from erp_service.operations.verify import all_proofs
from erp_service.registry.proofs import Proof, SlowProof
from erp_service.settings import Settings

PERIOD = 0.1
"""Seconds from one round to the next."""
CHECKERS = 2
"""Each with a connection of its own, since a round over a ledger of ten thousand entries takes longer than PERIOD."""
_SHOWN = 5


class Rounds(Struct):
    """How often all proofs were read, and what was found."""

    done: int = 0
    cut_off: int = 0
    late: int = 0
    """Rounds that took so long that the next one of their checker began late."""
    began: float = msgspec.field(default_factory=monotonic)
    elapsed: float = 0.0
    """Seconds until the end of the last round."""
    seconds: list[float] = []
    slowest_proofs: dict[str, float] = {}
    faults: list[str] = []

    @property
    def figures(self) -> dict[str, object]:
        ordered = sorted(self.seconds) or [0.0]
        return {
            "rounds": self.done,
            "rounds a second": round(self.done / self.elapsed, 1) if self.elapsed else 0,
            "cut off by a fault of Postgres": self.cut_off,
            f"of more than {1000 * PERIOD * CHECKERS:g} ms, so that the next began late": self.late,
            "median, ms": round(1000 * ordered[len(ordered) // 2]),
            "slowest, ms": round(1000 * ordered[-1]),
            "findings": len(self.faults),
        }


async def check(settings: Settings, rounds: Rounds) -> None:
    """Until it is canceled."""
    async with asyncio.TaskGroup() as group:
        for _ in range(CHECKERS):
            group.create_task(_check(settings, rounds))
            await asyncio.sleep(PERIOD)


async def _check(settings: Settings, rounds: Rounds) -> None:
    # there are no exports
    proofs = [proof for proof in all_proofs() if proof.name != "export files"]
    while True:
        try:
            # compiling takes longer than reading so few rows
            db = await connect(settings.migration_database_url or "", name="erp bank checker", jit="off")
            try:
                await _rounds(db, settings, proofs, rounds)
            finally:
                db.terminate()
        except DATABASE_ERRORS as exc:
            if not is_unavailable(exc):
                raise
            rounds.cut_off += 1
            await asyncio.sleep(PERIOD)


async def _rounds(db: asyncpg.Connection, settings: Settings, proofs: list[Proof | SlowProof], rounds: Rounds) -> None:
    while True:
        start = monotonic()
        judges = []
        async with db.transaction(isolation="repeatable_read", readonly=True):
            for proof in proofs:
                began = monotonic()
                if isinstance(proof, SlowProof):
                    judges.append(await proof.prepare(db, settings))
                elif rows := await db.fetch(proof.rows):
                    rounds.faults.append(f"{proof.name}, {len(rows)} rows: {[dict(row) for row in rows[:_SHOWN]]}")
                seconds = monotonic() - began
                rounds.slowest_proofs[proof.name] = max(rounds.slowest_proofs.get(proof.name, 0.0), seconds)
        rounds.faults += [str(finding) for judge in judges if (finding := await judge(db)) is not None]
        seconds = monotonic() - start
        rounds.done += 1
        rounds.elapsed = start + seconds - rounds.began
        rounds.seconds.append(seconds)
        rounds.late += seconds > PERIOD * CHECKERS
        await asyncio.sleep(max(0.0, PERIOD * CHECKERS - seconds))
