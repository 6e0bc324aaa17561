"""The record of a run of `erp verify`."""

from erp_service.db.connections import connect
from erp_service.settings import Settings

_RECORD = """
insert into operation_runs (kind, ok, seconds, proofs, failed_proofs) values ('verify', $1, $2, $3, $4)
on conflict (kind, ok) do update set ended_at = clock_timestamp(), seconds = excluded.seconds,
  proofs = excluded.proofs, failed_proofs = excluded.failed_proofs
"""


async def record_verification(settings: Settings, *, seconds: float, proofs: int, failed: int) -> None:
    """Over a connection of its own. Raises one of DATABASE_ERRORS, such as on a standby, or without the right."""
    # it must neither wait for a standby that is away, nor for others
    db = await connect(
        settings.listen_url,
        name="erp verify",
        synchronous_commit="local",
        lock_timeout="5s",
        statement_timeout="10s",
    )
    try:
        await db.execute(_RECORD, failed == 0, seconds, proofs, failed)
    finally:
        await db.close()
