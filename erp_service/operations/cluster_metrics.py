"""Figures of the whole cluster, as its database knows them, for Prometheus: the same from every instance."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.registry.figures import FigureReader

FRESH_SECONDS = 2.0
"""So long one look serves every scrape: who asks a hundred times a second costs the database nothing more."""

_ANSWER_SECONDS = 3.0


class ClusterMetrics(Collector):
    """The figures as they were last read; none at all while the database is unavailable, since an old one misleads."""

    def __init__(
        self, database: Database, readers: Sequence[FigureReader], *, fresh_seconds: float = FRESH_SECONDS
    ) -> None:
        """`database` is not that of requests: a busy instance is scraped too."""
        self._database = database
        self._readers = readers
        self._figures: list[tuple[FigureReader, Mapping[str, float]]] | None = None
        self._fresh_seconds = fresh_seconds
        self._read_at = -fresh_seconds
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the figures, unless they are fresh."""
        async with self._reading:
            if monotonic() - self._read_at < self._fresh_seconds:
                return
            try:
                async with asyncio.timeout(_ANSWER_SECONDS), self._database.read() as db:
                    self._figures = [(reader, await reader.read(db)) for reader in self._readers]
            except DATABASE_ERRORS:
                self._figures = None
            self._read_at = monotonic()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("erp_database_up", "1 while the database answers", int(self._figures is not None))
        for reader, values in self._figures or []:
            for name, meaning in reader.gauges.items():
                yield GaugeMetricFamily(name, meaning, values[name])
