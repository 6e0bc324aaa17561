"""Lines of a file of locations. They may name a parent, by its code, that stands anywhere in the file or is there
already; so unlike other files this one is held in memory as a whole, about 1 kB a line."""

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import text

from erp_service import validation
from erp_service.db.sessions import WriteSession
from erp_service.imports.csv_table import Faults, Layout, Table
from erp_service.inventory.locations import DEEPEST, lock_tree
from erp_service.inventory.schemas import LocationBody

LAYOUT = Layout(
    required=("code", "name", "location_type"),
    optional=("address", "parent", "allow_negative_stock"),
    keeps_extras=False,
)
_FLAGS = {"": False, "false": False, "f": False, "no": False, "0": False}
_FLAGS |= {"true": True, "t": True, "yes": True, "1": True}


class Known(msgspec.Struct, frozen=True):
    """A living location that the file names as a parent; `depth` is 1 at the top."""

    id: int
    depth: int


class LocationRow(msgspec.Struct, frozen=True):
    """One location as the file states it; `parent` is a code, "" for none."""

    number: int
    body: LocationBody
    parent: str


async def post(db: WriteSession, table: Table, faults: Faults) -> int:
    """Check all lines, then store them; how many there are. Raises ImportRefused."""
    first: dict[str, int] = {}
    lines = {line.body.code: line for line in _lines(table, first, faults)}
    # as for every change of the tree: two that cross would each find no cycle
    await lock_tree(db)
    known = await _known(db, {line.parent for line in lines.values()} - first.keys() - {""})
    depths: dict[str, int] = {}
    for line in lines.values():
        if line.parent and line.parent not in first and line.parent not in known:
            faults.add(line.number, "parent", f"there is no location {line.parent!r}")
        elif _depth(line, lines, known, depths) > DEEPEST:
            faults.add(line.number, "parent", f"is itself, a part of it, or more than {DEEPEST} levels deep")
    ids = await _store(db, lines, faults)
    faults.check()
    ids |= {code: parent.id for code, parent in known.items()}
    children = [line for line in lines.values() if line.parent]
    await db.execute(
        _PARENTS, {"ids": [ids[c.body.code] for c in children], "parents": [ids[c.parent] for c in children]}
    )
    return len(lines)


def _lines(table: Table, first: dict[str, int], faults: Faults) -> Iterator[LocationRow]:
    """Those that are right by themselves; `first` says of every code where it stands first."""
    for number, (code, name, location_type, address, parent, flag), _ in table:
        value: dict[str, Any] = {"code": code, "name": name, "location_type": location_type}
        value |= {"address": address} if address else {}
        value["allow_negative_stock"] = _FLAGS.get(flag.lower(), flag)
        before = faults.total
        if code in first:
            faults.add(number, "code", f"is the same as on line {first[code]}")
        first.setdefault(code, number)
        for fault in validation.faults(LocationBody, value):
            faults.add(number, (fault.pointer or "/").removeprefix("/"), fault.detail)
        if faults.total == before:
            yield LocationRow(number, msgspec.convert(value, LocationBody), parent)


def _depth(line: LocationRow, lines: dict[str, LocationRow], known: dict[str, Known], depths: dict[str, int]) -> int:
    """Levels from the top, the location's own included; more than DEEPEST also where it is its own ancestor."""
    above: list[str] = []
    code, depth = line.body.code, 0
    while code and len(above) <= DEEPEST:
        if code in depths or code not in lines:
            depth = depths[code] if code in depths else known[code].depth if code in known else 0
            break
        above.append(code)
        code = lines[code].parent
    for part in reversed(above):
        depth += 1
        depths[part] = depth
    return depth


_KNOWN = text("""
with recursive up as (
  select code, id, parent_id, 1 as depth from locations
  where code = any(cast(:codes as text[])) and deleted_at is null
  union all
  select up.code, up.id, l.parent_id, up.depth + 1 from up join locations l on l.id = up.parent_id
  where up.depth <= :deepest
)
select code, id, max(depth) from up group by code, id
""")

# What others are just making under the same code is waited for. What is taken gives no row back.
_STORE = text("""
insert into locations (code, name, location_type, address, allow_negative_stock)
select code, name, location_type, address, allow_negative_stock from unnest(
  cast(:codes as text[]), cast(:names as text[]), cast(:types as text[]), cast(:addresses as text[]),
  cast(:flags as boolean[])
) with ordinality l (code, name, location_type, address, allow_negative_stock, n)
order by n on conflict (code) do nothing returning code, id
""")

_PARENTS = text("""
update locations set parent_id = p.parent
from unnest(cast(:ids as bigint[]), cast(:parents as bigint[])) p (child, parent) where id = p.child
""")


async def _known(db: WriteSession, codes: set[str]) -> dict[str, Known]:
    rows = await db.execute(_KNOWN, {"codes": list(codes), "deepest": DEEPEST})
    return {code: Known(id_, depth) for code, id_, depth in rows}


async def _store(db: WriteSession, lines: dict[str, LocationRow], faults: Faults) -> dict[str, int]:
    columns = {
        "codes": list(lines),
        "names": [line.body.name for line in lines.values()],
        "types": [line.body.location_type for line in lines.values()],
        "addresses": [line.body.address for line in lines.values()],
        "flags": [line.body.allow_negative_stock for line in lines.values()],
    }
    ids = {row.code: row.id for row in await db.execute(_STORE, columns)}
    for code in lines.keys() - ids.keys():
        faults.add(lines[code].number, "code", f"there is a location {code!r} already, perhaps a deleted one")
    return ids
