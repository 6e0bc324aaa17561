"""Rows of a file of locations: checked by the rules of a request's body, and stored at once.

A row may name a parent by its code, which stands anywhere in the file or exists already. So, unlike other files, this
one is kept in memory as a whole: about 1 kB a row.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import get_args

import msgspec
from sqlalchemy import text

from erp_service import validation
from erp_service.access.principals import Principal
from erp_service.db.sessions import WriteSession
from erp_service.imports.csv_table import Table
from erp_service.imports.existing import location_updates
from erp_service.imports.files.dialect import word
from erp_service.imports.files.faults import Faults
from erp_service.imports.files.header import Layout, name_misspelt
from erp_service.imports.files.members import metadata
from erp_service.imports.fingerprint import Claim, Fingerprint
from erp_service.imports.identifiers import CHANGED_MEANWHILE, Identifiers
from erp_service.imports.stored import Counts, Mode
from erp_service.inventory.locations import DEEPEST, lock_tree
from erp_service.inventory.schemas import LocationBody, LocationType

LAYOUT = Layout(
    required=("code", "name", "location_type"),
    optional=("address", "parent", "allow_negative_stock", "external_id", "metadata"),
    keeps_extras=True,
    checked=("parent_id", "deleted_at"),
    read_only=("id", "created_at", "updated_at"),
)
_TYPES: tuple[str, ...] = get_args(LocationType)
# with the words that spreadsheets in German, French, Spanish and Italian save
_FALSE = ("", "FALSE", "F", "NO", "N", "0", "FALSCH", "FAUX", "FALSO")
_TRUE = ("TRUE", "T", "YES", "Y", "1", "WAHR", "VRAI", "VERDADERO", "VERO")


class LocationRow(msgspec.Struct, frozen=True):
    """One location, valid by itself; `number` is its line in the file, `parent` a code, "" for none."""

    number: int
    body: LocationBody
    parent: str


class ExistingParent(msgspec.Struct, frozen=True):
    """A location in the database that the file names as a parent; `depth` is 1 at the top of the tree."""

    id: int
    depth: int


def rows(table: Table, codes: Identifiers, faults: Faults) -> Iterator[LocationRow]:
    """The valid rows in file order; `faults` names all that is wrong with the others.

    Fills `codes`, also with those of rows that are not valid."""
    name_misspelt(table.extras, LAYOUT, faults)
    external_ids = Identifiers("external_id", faults, keep_damaged=table.dialect.keep_codes)
    for number, texts, record in table:
        before, parent = faults.total, texts[LAYOUT.known.index("parent")]
        value = dict(_values(number, texts, record, table, faults))
        codes.add(number, texts[0])
        if "external_id" in value:
            external_ids.add(number, str(value["external_id"]))
        for fault in validation.faults(LocationBody, value):
            faults.add(number, table.column_of(fault.pointer), fault.detail)
        if faults.total == before:
            body = msgspec.convert(value, LocationBody, dec_hook=validation.read_hook)
            yield LocationRow(number, body, parent)


def _values(
    number: int, texts: tuple[str, ...], record: list[str], table: Table, faults: Faults
) -> Iterator[tuple[str, object]]:
    """The fields of the body; one that cannot be read is left out, and named."""
    code, name, location_type, address, _, flag, external_id, members, parent_id, deleted_at = texts
    yield from (("code", code), ("name", name))
    if address:
        yield "address", address
    if external_id:
        yield "external_id", external_id
    try:
        yield "metadata", metadata(members, table.extras, record)
    except ValueError as error:
        faults.add(number, "metadata", str(error))
    try:
        yield "location_type", word(location_type, _TYPES)
    except ValueError as error:
        yield "location_type", _TYPES[0]
        faults.add(number, "location_type", str(error))
    if flag.strip().upper() in _TRUE:
        yield "allow_negative_stock", True
    elif flag.strip().upper() not in _FALSE:
        faults.add(number, "allow_negative_stock", f"{flag!r} is neither true nor false")
    if parent_id and not table.has("parent"):
        faults.add(number, "parent_id", "ids are those of another database: export the column parent, too")
    if deleted_at:
        faults.add(number, "deleted_at", "the location is deleted: leave its row out")


async def store(db: WriteSession, who: Principal, table: Table, faults: Faults, claim: Claim, mode: Mode) -> Counts:
    """Check all rows, then store them. Raises ImportRefused."""
    codes = Identifiers("code", faults, keep_damaged=table.dialect.keep_codes)
    by_code: dict[str, LocationRow] = {row.body.code: row for row in rows(table, codes, faults)}
    has_own_faults = bool(faults.total)
    # as for every change of the tree: two changes that cross would each find no cycle
    await lock_tree(db)
    outside = {row.parent for row in by_code.values() if row.parent and row.parent not in codes}
    parents = await _existing_parents(db, outside)
    depths: dict[str, int] = {}
    for row in by_code.values():
        if row.parent in outside and row.parent not in parents:
            faults.add(row.number, "parent", f"there is no location {row.parent!r}")
        elif _depth(row, by_code, parents, depths) > DEEPEST:
            faults.add(row.number, "parent", f"is itself, a part of it, or more than {DEEPEST} levels deep")
    present = {} if mode == "create" else await location_updates.lock_existing(db, by_code)
    new = {code: row for code, row in by_code.items() if code not in present}
    if mode == "update":
        for row in new.values():
            detail = f"there is no location {row.body.code!r}, and the mode update creates none"
            faults.add(row.number, "code", detail)
        new = {}
    ids = await _insert(db, new, faults)
    if not has_own_faults:
        fingerprint = Fingerprint()
        for row in by_code.values():
            fingerprint.add_struct(row.body, row.parent)
        await claim(fingerprint.hex())
    faults.check()
    ids |= {code: parent.id for code, parent in parents.items()}
    ids |= {code: location.id for code, location in present.items()}
    children = [row for row in new.values() if row.parent]
    await db.execute(
        _SET_PARENTS, {"ids": [ids[c.body.code] for c in children], "parents": [ids[c.parent] for c in children]}
    )
    changes = [(present[code], row.number, row.body, row.parent) for code, row in by_code.items() if code in present]
    updated = await location_updates.update(db, who, table, changes, faults)
    faults.check()
    return Counts(len(by_code), table.blank_rows, len(new), updated, len(changes) - updated)


def _depth(
    row: LocationRow, by_code: Mapping[str, LocationRow], parents: Mapping[str, ExistingParent], depths: dict[str, int]
) -> int:
    """The location's level, 1 at the top; more than DEEPEST also if it is its own ancestor. Fills `depths`."""
    path: list[str] = []
    code: str = row.body.code
    depth = 0
    while code and len(path) <= DEEPEST:
        if code in depths or code not in by_code:
            depth = depths[code] if code in depths else parents[code].depth if code in parents else 0
            break
        path.append(code)
        code = by_code[code].parent
    for code in reversed(path):
        depth += 1
        depths[code] = depth
    return depth


_EXISTING_PARENTS = text("""
with recursive up as (
  select code, id, parent_id, 1 as depth from locations
  where code = any(cast(:codes as text[])) and deleted_at is null
  union all
  select up.code, up.id, l.parent_id, up.depth + 1 from up join locations l on l.id = up.parent_id
  where up.depth <= :deepest
)
select code, id, max(depth) from up group by code, id
""")

# The insert waits for a transaction that is just inserting the same code or external id. A row whose code or external
# id exists already returns nothing.
_INSERT = text("""
insert into locations (code, name, location_type, address, allow_negative_stock, external_id, metadata)
select code, name, location_type, address, allow_negative_stock, external_id, cast(metadata as jsonb) from unnest(
  cast(:codes as text[]), cast(:names as text[]), cast(:types as text[]), cast(:addresses as text[]),
  cast(:flags as boolean[]), cast(:external_ids as text[]), cast(:metadata as text[])
) with ordinality l (code, name, location_type, address, allow_negative_stock, external_id, metadata, n)
order by n on conflict do nothing returning code, id
""")

_PRESENT = text("""
select code, external_id, deleted_at from locations
where code = any(cast(:codes as text[])) or deleted_at is null and external_id = any(cast(:external_ids as text[]))
""")

_SET_PARENTS = text("""
update locations set parent_id = p.parent
from unnest(cast(:ids as bigint[]), cast(:parents as bigint[])) p (child, parent) where id = p.child
""")


async def _existing_parents(db: WriteSession, codes: set[str]) -> dict[str, ExistingParent]:
    result = await db.execute(_EXISTING_PARENTS, {"codes": list(codes), "deepest": DEEPEST})
    return {code: ExistingParent(id_, depth) for code, id_, depth in result}


async def _insert(db: WriteSession, by_code: Mapping[str, LocationRow], faults: Faults) -> dict[str, int]:
    """The ids of the new locations, by code; their parents are not set yet."""
    ids = {row.code: row.id for row in await db.execute(_INSERT, _columns(by_code.values()))}
    refused = [row for code, row in by_code.items() if code not in ids]
    if not refused:
        return ids
    present = await db.execute(_PRESENT, _columns(refused))
    codes = {location.code for location in present}
    external_ids = {location.external_id: location.code for location in present if location.deleted_at is None}
    for row in refused:
        before, body = faults.total, row.body
        if body.code in codes:
            faults.add(row.number, "code", f"there is a location {body.code!r} already, perhaps a deleted one")
        if body.external_id is not None and body.external_id in external_ids:
            other = external_ids[body.external_id]
            faults.add(row.number, "external_id", f"{body.external_id!r} is that of the location {other!r}")
        if faults.total == before:
            faults.add(row.number, None, CHANGED_MEANWHILE)
    return ids


def _columns(rows: Collection[LocationRow]) -> dict[str, list[object]]:
    bodies = [row.body for row in rows]
    return {
        "codes": [body.code for body in bodies],
        "names": [body.name for body in bodies],
        "types": [body.location_type for body in bodies],
        "addresses": [body.address for body in bodies],
        "flags": [body.allow_negative_stock for body in bodies],
        "external_ids": [body.external_id for body in bodies],
        "metadata": [msgspec.json.encode(body.metadata).decode() for body in bodies],
    }
