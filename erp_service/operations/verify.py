"""`erp verify`: the proofs of all features, checked on one snapshot of the database."""

from collections.abc import Sequence

import asyncpg

from erp_service.db.connections import connect
from erp_service.features import FEATURES
from erp_service.registry.feature import load
from erp_service.registry.proofs import MOST_ROWS, Finding, Judge, Proof, SlowProof
from erp_service.settings import Settings


def all_proofs() -> list[Proof | SlowProof]:
    """The proofs that the features register, in the order of the features."""
    return load(FEATURES, "proofs", Proof, SlowProof)


async def verify(settings: Settings, proofs: Sequence[Proof | SlowProof] | None = None) -> list[Finding]:
    """One finding for each proof that does not hold; none if the books are right. Changes nothing.

    Raises OSError or asyncpg's errors when the database does not answer, SettingsError for a store of no known kind."""
    proofs = all_proofs() if proofs is None else proofs
    findings: list[Finding] = []
    judges: list[Judge] = []
    db = await connect(settings.listen_url, name="erp verify", statement_timeout="0", lock_timeout="0")
    try:
        async with db.transaction(isolation="repeatable_read", readonly=True):
            for proof in proofs:
                if isinstance(proof, SlowProof):
                    judges.append(await proof.prepare(db, settings))
                elif finding := await _check(db, proof):
                    findings.append(finding)
        # after the transaction: its snapshot must not be held open while many gigabytes of files are read
        findings += [finding for judge in judges if (finding := await judge(db))]
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
