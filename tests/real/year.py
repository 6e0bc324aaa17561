"""The Online Retail year in a database."""

import os
from pathlib import Path
from typing import NamedTuple, get_args

from erp_service.imports.service import Kind, Loaded

ROOT = Path(__file__).parents[2]
DATA = ROOT / os.environ.get("ERP_REAL_DATA", "../shared/data/online_retail")
FILES: dict[Kind, str] = {"items": "items.csv", "locations": "locations.csv", "movements": "movements.csv.xz"}
assert list(FILES) == list(get_args(Kind))
MOVEMENTS = 545_867


class Year(NamedTuple):
    """The database with the year in it, and what its import reported."""

    database: str
    exports: Path
    loaded: dict[Kind, Loaded]
    told: list[tuple[int, int, str]]
