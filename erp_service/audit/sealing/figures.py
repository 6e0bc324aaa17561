"""How far the trail is behind what was committed."""

from sqlalchemy import text

from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared
from erp_service.registry.figures import FigureReader

MOST_COUNTED = 100_000

# Entries that commit late, with ids before the last one that was sealed, are not counted: they are sealed in the next
# round like all others.
_BEHIND = Prepared(
    text(f"""
select (select coalesce(max(position), 0) from trail), count(*),
  coalesce(extract(epoch from now() - min(at)), 0)::float8
from (
  select at from audit_log where id > (select coalesce(max(audit_id), 0) from trail) order by id limit {MOST_COUNTED}
) entries
""")  # noqa: S608 a constant
)

_GAUGES = {
    "erp_trail_position": "The last position of the trail",
    "erp_trail_waiting": f"Audit entries that have no position yet; counted up to {MOST_COUNTED}",
    "erp_trail_oldest_waiting_seconds": "For how long the first of these has waited",
}


async def oldest_waiting(db: Session) -> float | None:
    """For how many seconds the first audit entry without a position has waited; None if all have one."""
    _, waiting, oldest = (await db.execute(_BEHIND)).one()
    return oldest if waiting else None


async def _figures(db: Session) -> dict[str, float]:
    return dict(zip(_GAUGES, (await db.execute(_BEHIND)).one(), strict=True))


FIGURES = (FigureReader(_GAUGES, _figures),)
