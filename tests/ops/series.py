"""The time series that the service exposes."""

import re
from pathlib import Path

from procrastinate import Blueprint

from erp_service.features import FEATURES
from erp_service.observability import telemetry
from erp_service.registry.feature import load
from erp_service.registry.figures import FigureReader
from erp_service.registry.housekeeping import HousekeepingStep, Pruning

OPS = Path(__file__).parents[2] / "ops"


def known() -> set[str]:
    """The names of all series, including those without a sample yet."""
    load(FEATURES, "tasks", Blueprint)  # a feature defines its metrics where it counts
    load(FEATURES, "housekeeping", Pruning, HousekeepingStep)
    families = {family.name: family.type for family in telemetry.REGISTRY.collect()}
    backups = "".join(file.read_text() for file in (OPS / "backups").glob("*.py"))
    cluster = [name for reader in load(FEATURES, "figures", FigureReader) for name in reader.gauges]
    names = {"erp_database_up", *cluster, *re.findall(r"erp_backup_[a-z_]+", backups)}
    for name, kind in families.items():
        names.add(name)
        names |= {"counter": {f"{name}_total"}, "histogram": {f"{name}_bucket", f"{name}_count"}}.get(kind, set())
    return names
