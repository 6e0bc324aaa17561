"""Every feature of the service, in order: the only such list. Each may import those before it, and none after it.

A new feature is a folder with a `feature.py` that has one value `FEATURE`, and its name here. Features are found by
their names, so that this module imports none of them, and all of them may read it."""

import pkgutil

from erp_service.registry.feature import Feature

NAMES = (
    "web",
    "queue",
    "audit",
    "company",
    "auth",
    "events",
    "inventory",
    "reports",
    "exports",
    "imports",
    "operations",
    "console",
)

FEATURES: tuple[Feature, ...] = tuple(pkgutil.resolve_name(f"erp_service.{name}.feature:FEATURE") for name in NAMES)
