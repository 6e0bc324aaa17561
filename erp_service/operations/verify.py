"""`erp verify`: the proofs of all features, asked of one snapshot of the database."""

from collections.abc import Sequence

import asyncpg

from erp_service.db.connections import connect
from erp_service.features import FEATURES
from erp_service.registry.feature import load
from erp_service.registry.proofs import MOST_ROWS, Finding, Proof, SlowProof
from erp_service.settings import Settings


def all_proofs() -> list[Proof | SlowProof]:
    """Those that the features register, in their order."""
    return load(FEATURES, "proofs", Proof, SlowProof)


async def verify(settings: Settings, proofs: Sequence[Proof | SlowProof] | None = None) -> list[Finding]:
    """All that does not hold, in the order of the proofs; nothing if the books are right. Changes nothing.

    Raises OSError or asyncpg's errors when the database does not answer, SettingsError for a store of no known kind."""
    proofs = all_proofs() if proofs is None else proofs
    findings, judges = [], []
    db = await connect(settings.listen_url, name="erp verify", statement_timeout="0", lock_timeout="0")
    try:
        async with db.transaction(isolation="repeatable_read", readonly=True):
            for proof in proofs:
                if isinstance(proof, SlowProof):
                    judges.append(await proof.prepare(db, settings))
                elif finding := await _prove(db, proof):
                    findings.append(finding)
        # after the snapshot, which must not be held open while many gigabytes are read
        findings += [finding for judge in judges if (finding := await judge(db))]
    finally:
        await db.close()
    return findings


async def _prove(db: asyncpg.Connection, proof: Proof) -> Finding | None:
    counted = f"select *, count(*) over () as total_ from ({proof.rows}) at_fault limit {MOST_ROWS}"  # noqa: S608
    rows = [dict(row) for row in await db.fetch(counted)]
    if not rows:
        return None
    total = max(row.pop("total_") for row in rows)
    return Finding(proof.name, proof.holds, tuple(rows), total)
