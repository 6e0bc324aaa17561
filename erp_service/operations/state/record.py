"""The record of a run of `erp verify`."""

from erp_service.db.connections import connect
from erp_service.settings import Settings

# A row of its own would stop the replication of a copy that follows another database (ops/upgrade-postgres).
_RECORD = """
insert into operation_runs (kind, ok, seconds, proofs, failed_proofs)
select 'verify', $1::boolean, $2::float8, $3::integer, $4::integer
where not exists (
  select from pg_subscription where subdbid = (select oid from pg_database where datname = current_database()))
on conflict (kind, ok) do update set ended_at = clock_timestamp(), seconds = excluded.seconds,
  proofs = excluded.proofs, failed_proofs = excluded.failed_proofs
"""


async def record_verification(settings: Settings, *, seconds: float, proofs: int, failed: int) -> bool:
    """Over a connection of its own. False if this is a copy that follows another database, which takes no record.

    Raises one of DATABASE_ERRORS, such as on a standby, or without the right."""
    # it must neither wait for a standby that is away, nor for others
    db = await connect(
        settings.listen_url,
        name="erp verify",
        synchronous_commit="local",
        lock_timeout="5s",
        statement_timeout="10s",
    )
    try:
        return bool(await db.execute(_RECORD, failed == 0, seconds, proofs, failed) != "INSERT 0 0")
    finally:
        await db.close()
