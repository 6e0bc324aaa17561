"""Figures of the whole cluster at /metrics: every instance reads the same ones from the database."""

from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from erp_service.db.sessions import Session


class FigureReader(Struct, frozen=True):
    """The Prometheus gauges of one feature: `gauges` says what each means, `read` gives a value for each. Ages are in
    seconds."""

    gauges: Mapping[str, str]
    read: Callable[[Session], Awaitable[Mapping[str, float]]]
