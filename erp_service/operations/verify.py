"""`erp verify`: the proofs of all features, checked on one snapshot of the database."""

import time
from collections.abc import Callable, Sequence

import asyncpg
from msgspec import Struct

from erp_service.db.connections import connect
from erp_service.features import FEATURES
from erp_service.registry.feature import load
from erp_service.registry.proofs import MOST_ROWS, Finding, Judge, Proof, SlowProof
from erp_service.settings import Settings


def all_proofs() -> list[Proof | SlowProof]:
    """The proofs that the features register, in the order of the features."""
    return load(FEATURES, "proofs", Proof, SlowProof)


class Checked(Struct, frozen=True):
    """One proof that was checked."""

    proof: str
    holds: str
    at_fault: int
    seconds: float


_COUNTS = """
select
  (select count(*) from items) as items,
  (select count(*) from locations) as locations,
  (select count(*) from stock_transactions) as documents,
  (select count(*) from stock_ledger) as "ledger entries",
  (select count(*) from stock_balances) as balances,
  (select count(*) from audit_log) as "audit entries",
  (select count(*) from trail) as positions
"""


async def count(settings: Settings) -> dict[str, int]:
    """How many of each there are, so that a person sees that the right database was checked."""
    db = await connect(settings.listen_url, name="erp verify", statement_timeout="0", lock_timeout="0")
    try:
        return dict(await db.fetchrow(_COUNTS))
    finally:
        await db.close()


async def verify(
    settings: Settings,
    proofs: Sequence[Proof | SlowProof] | None = None,
    report: Callable[[Checked], object] = lambda _checked: None,
) -> list[Finding]:
    """One finding for each proof that does not hold; none if the books are right. Changes nothing.

    `report` is called after each proof. Raises OSError or asyncpg's errors when the database does not answer,
    SettingsError for a store of no known kind."""
    proofs = all_proofs() if proofs is None else proofs
    findings: list[Finding] = []
    judges: list[tuple[SlowProof, Judge]] = []

    def add(proof: Proof | SlowProof, finding: Finding | None, start: float) -> None:
        report(Checked(proof.name, proof.holds, 0 if finding is None else finding.total, time.monotonic() - start))
        if finding is not None:
            findings.append(finding)

    db = await connect(settings.listen_url, name="erp verify", statement_timeout="0", lock_timeout="0")
    try:
        async with db.transaction(isolation="repeatable_read", readonly=True):
            for proof in proofs:
                start = time.monotonic()
                if isinstance(proof, SlowProof):
                    judges.append((proof, await proof.prepare(db, settings)))
                else:
                    add(proof, await _check(db, proof), start)
        # after the transaction: its snapshot must not be held open while many gigabytes of files are read
        for slow, judge in judges:
            start = time.monotonic()
            add(slow, await judge(db), start)
    finally:
        await db.close()
    return findings


async def _check(db: asyncpg.Connection, proof: Proof) -> Finding | None:
    query = f"select *, count(*) over () as total_ from ({proof.rows}) at_fault limit {MOST_ROWS}"  # noqa: S608
    rows = [dict(row) for row in await db.fetch(query)]
    if not rows:
        return None
    total = max(row.pop("total_") for row in rows)
    return Finding(proof.name, proof.holds, tuple(rows), total)
