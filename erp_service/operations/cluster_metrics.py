"""Prometheus gauges of the whole cluster, read from its database: every instance reports the same values."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.registry.figures import FigureReader

FRESH_SECONDS = 2.0
"""For so long the figures that were read serve every scrape: a hundred scrapes a second cost the database no more."""

_ANSWER_SECONDS = 3.0


class ClusterMetrics(Collector):
    """The figures that were read last; none at all while the database is unavailable, since old ones would mislead."""

    def __init__(
        self, database: Database, readers: Sequence[FigureReader], *, fresh_seconds: float = FRESH_SECONDS
    ) -> None:
        """`database` has connections of its own: an instance whose requests use all of theirs can still be scraped."""
        self._database = database
        self._readers = readers
        self._figures: list[tuple[FigureReader, Mapping[str, float]]] | None = None
        self._fresh_seconds = fresh_seconds
        self._read_at = -fresh_seconds
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the figures, unless they were read less than `fresh_seconds` ago."""
        async with self._lock:
            if monotonic() - self._read_at < self._fresh_seconds:
                return
            try:
                async with asyncio.timeout(_ANSWER_SECONDS), self._database.read() as db:
                    self._figures = [(reader, await reader.read(db)) for reader in self._readers]
            except DATABASE_ERRORS:
                self._figures = None
            self._read_at = monotonic()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called by prometheus_client, which cannot await anything: `refresh` must have read the figures before."""
        yield GaugeMetricFamily("erp_database_up", "1 while the database answers", int(self._figures is not None))
        for reader, values in self._figures or []:
            for name, meaning in reader.gauges.items():
                yield GaugeMetricFamily(name, meaning, values[name])
