"""Rows of a file of locations whose codes exist: updated by the rule of single requests, inventory/locations.py."""

from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import select, text

from erp_service.access.principals import Principal
from erp_service.db.base import among
from erp_service.db.sessions import WriteSession
from erp_service.errors import Refused
from erp_service.imports.csv_table import Table
from erp_service.imports.existing.merging import merged, too_many_members
from erp_service.imports.files.faults import Faults
from erp_service.inventory import locations
from erp_service.inventory.models import Location
from erp_service.inventory.queries.locations import LOCATION_COLUMNS
from erp_service.inventory.schemas import LocationBody, LocationOut

_TAKEN = text("""
select code, external_id from locations
where deleted_at is null and external_id = any(cast(:external_ids as text[]))
""")


async def lock_existing(db: WriteSession, codes: Collection[str]) -> dict[str, LocationOut]:
    """By code, deleted ones too; in the order in which postings lock."""
    statement = select(*LOCATION_COLUMNS).where(among(Location.code, codes)).order_by(Location.id)
    rows = await db.execute(statement.with_for_update(key_share=True, of=Location))
    return {location.code: location for location in (LocationOut(*row) for row in rows)}


async def update(
    db: WriteSession,
    who: Principal,
    table: Table,
    changes: Sequence[tuple[LocationOut, int, LocationBody, str]],
    faults: Faults,
) -> int:
    """Returns how many rows have changed something. Of each: the locked location, the line, the body, and the code of
    the parent ("" for none)."""
    taken = {}
    external_ids = [body.external_id for _, _, body, _ in changes if body.external_id]
    if external_ids:
        taken = {ext: code for code, ext in await db.execute(_TAKEN, {"external_ids": external_ids})}
    updated = 0
    for before, number, body, parent in changes:
        place = (
            {"parent": parent or None, "parent_id": None} if table.has("parent") else {"parent_id": before.parent_id}
        )
        if before.deleted_at is not None:
            faults.add(number, "code", f"the location {before.code!r} is deleted: restore it first")
            continue
        if body.external_id and (other := taken.get(body.external_id, body.code)) != body.code:
            faults.add(number, "external_id", f"{body.external_id!r} is that of the location {other!r}")
            continue
        whole = merged(before, msgspec.structs.replace(body, parent=None), table, {"parent": None, **place})
        if fault := too_many_members(whole.metadata):
            faults.add(number, "metadata", fault)
        if faults.total:
            continue
        try:
            updated += await locations.replace(db, who, before, whole) != before
        except Refused as exc:
            details = [(fault.pointer, fault.detail) for fault in exc.faults] or [(None, exc.detail or exc.title)]
            for pointer, detail in details:
                faults.add(number, (pointer or "").removeprefix("/") or None, detail)
    return updated
