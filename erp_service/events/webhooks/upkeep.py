"""What is removed of the lists of deliveries, and what /metrics says of webhooks."""

from sqlalchemy import text

from erp_service.db.sessions import Session
from erp_service.registry.figures import FigureReader
from erp_service.registry.housekeeping import Pruning

KEPT_DAYS = 30
MOST_KEPT = 10_000
"""Attempts that are listed of one webhook."""

HOUSEKEEPING = (
    Pruning(
        "deliveries to webhooks",
        text(f"""
        delete from webhook_deliveries where id in (
          select id from webhook_deliveries where at < now() - interval '{KEPT_DAYS} days' limit :batch)
        """),  # noqa: S608 a constant
    ),
    Pruning(
        "deliveries to webhooks beyond the newest",
        text(f"""
        delete from webhook_deliveries where id in (
          select old.id from webhooks w cross join lateral (
            select id from webhook_deliveries where webhook_id = w.id order by id desc offset {MOST_KEPT}
          ) old limit :batch)
        """),  # noqa: S608 a constant
    ),
)

_GAUGES = {
    "erp_webhooks_active": "Webhooks that are switched on",
    "erp_webhooks_blocked": "Those of them that did not take an event, which is sent again",
    "erp_webhooks_disabled": "Webhooks that were switched off after three days of failures, or by 410",
    "erp_webhooks_lag_seconds": "The age of the oldest event that an active webhook was not told of yet",
}
# the position after a cursor may be of no event, or of one that does not concern the webhook: it is passed in a second
_FIGURES = text("""
    select count(*) filter (where is_active) as active,
      count(*) filter (where is_active and blocked_position is not null) as blocked,
      count(*) filter (where disabled_because is not null) as disabled,
      coalesce(max(extract(epoch from clock_timestamp() - next.sealed_at)), 0)::float8 as lag
    from webhooks w left join lateral (
      select sealed_at from trail where w.is_active and position > w.cursor order by position limit 1
    ) next on true
""")


async def _figures(db: Session) -> dict[str, float]:
    row = (await db.execute(_FIGURES)).one()
    return {
        "erp_webhooks_active": row.active,
        "erp_webhooks_blocked": row.blocked,
        "erp_webhooks_disabled": row.disabled,
        "erp_webhooks_lag_seconds": max(row.lag, 0.0),
    }


FIGURES = (FigureReader(_GAUGES, _figures),)
