"""What /metrics says of the last `erp verify`. Backups write metrics of their own, where they run."""

import math

from erp_service.db.sessions import Session
from erp_service.operations.state.queries import last_runs
from erp_service.registry.figures import FigureReader

_GAUGES = {
    "erp_verify_last_run_timestamp_seconds": "When `erp verify` last checked the books; NaN if it left no record",
    "erp_verify_books_hold": "1 if they held then; NaN if it left no record",
}


async def _figures(db: Session) -> dict[str, float]:
    runs = next(each for each in await last_runs(db) if each.kind == "verify")
    ended = {ok: run.ended_at.timestamp() for ok, run in ((1, runs.succeeded), (0, runs.failed)) if run is not None}
    newest = max(ended, key=lambda ok: ended[ok], default=None)
    values = (math.nan, math.nan) if newest is None else (ended[newest], newest)
    return dict(zip(_GAUGES, values, strict=True))


FIGURES = (FigureReader(_GAUGES, _figures),)
