"""Kits: made of their components, or taken apart into them, at exactly the value of the parts."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from msgspec import Struct

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault
from erp_service.inventory.posting import ledger, valuation
from erp_service.inventory.posting.lines import LineKind, PostingLine
from erp_service.inventory.posting.periods import refuse_closed
from erp_service.inventory.posting.references import ItemReference, LocationReference, item_references
from erp_service.inventory.posting.row_locks import LockedItem, LockedLocation, LockedRows, Wanted, lock_rows
from erp_service.inventory.posting.schemas import AHEAD, EARLIEST, Assembly, Component, Document
from erp_service.inventory.posting.service import status_fault
from erp_service.inventory.posting.valuation import CostUnknown, DoesNotFit
from erp_service.inventory.problems import CostUnknown as CostUnknownProblem
from erp_service.inventory.problems import ItemNotActive
from erp_service.inventory.units import UnitFault, in_item_unit
from erp_service.validation import MOST_FAULTS


async def assemble(db: WriteSession, who: Principal, body: Assembly) -> Document:
    """Components out at moving average, the kit in at exactly their value; or the kit out, and the components in with
    its value, shared by what each is worth at present.

    Raises errors.Invalid, which names every bad field; ItemNotActive, InsufficientStock, PeriodClosed, CostUnknown."""
    bodies: list[Assembly | Component] = [body, *body.components]
    pointers = ["", *(f"/components/{index}" for index in range(len(body.components)))]
    named = [
        _Named(pointer, part, item, LocationReference("location_id", "location", part.location_id, part.location))
        for pointer, part, item in zip(pointers, bodies, await item_references(db, bodies), strict=True)
    ]
    rows = await lock_rows(db, (Wanted(one.item.key, one.location.key) for one in named))
    faults: list[Fault] = []
    now = datetime.now(UTC)
    parts = [part for one in named if (part := _part(one, rows, faults)) is not None]
    if not EARLIEST <= (body.occurred_at or now) <= now + AHEAD:
        faults.append(Fault("must lie between 1900 and 5 minutes from now", "/occurred_at"))
    # not among the parts, if it has a fault of its own
    kit_id = next((part.item.id for part in parts if not part.pointer), None)
    faults.extend(
        Fault("is the kit itself", f"{part.pointer}/{part.item_field}")
        for part in parts
        if part.pointer and part.item.id == kit_id
    )
    if faults:
        raise errors.Invalid(None, *faults[:MOST_FAULTS])
    await refuse_closed(db, [(body.occurred_at, "/occurred_at")])
    kit, *components = parts
    lines = (_taken_apart if body.disassemble else _made)(kit, components, rows, body, body.occurred_at or now)
    status = [(status_fault(line), line) for line in lines]
    if faults := [Fault(fault, f"{line.pointer}/sku") for fault, line in status if fault is not None]:
        raise ItemNotActive(None, *faults[:MOST_FAULTS])
    return await ledger.post(db, who, lines, rows)


class _Named(Struct, frozen=True):
    """The kit or a component as the body names it."""

    pointer: str
    body: Assembly | Component
    item: ItemReference
    location: LocationReference


class _Part(Struct, frozen=True):
    """The kit or a component."""

    pointer: str
    item_field: str
    item: LockedItem
    location: LockedLocation
    quantity: Decimal


def _part(named: _Named, rows: LockedRows, faults: list[Fault]) -> _Part | None:
    item = named.item.resolve(rows.items, named.pointer, faults)
    location = named.location.resolve(rows.locations, named.pointer, faults)
    if item is None or location is None:
        return None
    try:
        quantity = in_item_unit(item, named.body.quantity, named.body.unit)
    except UnitFault as fault:
        faults.append(Fault(str(fault), f"{named.pointer}/{fault.field}"))
        return None
    return _Part(named.pointer, named.item.field, item, location, quantity)


def _made(
    kit: _Part, components: Sequence[_Part], rows: LockedRows, body: Assembly, occurred_at: datetime
) -> list[PostingLine]:
    values = dict(rows.values)
    cost = valuation.ZERO
    for part in components:
        values[part.item.id], parts = _issued(values[part.item.id], part)
        cost -= sum((amounts.value for amounts in parts), valuation.ZERO)
    lines = [_line("OUT", part, body, occurred_at) for part in components]
    return [*lines, _line("IN", kit, body, occurred_at, cost)]


def _taken_apart(
    kit: _Part, components: Sequence[_Part], rows: LockedRows, body: Assembly, occurred_at: datetime
) -> list[PostingLine]:
    _, parts = _issued(rows.values[kit.item.id], kit)
    value = -sum((amounts.value for amounts in parts), valuation.ZERO)
    worth = [valuation.worth_of(rows.values[part.item.id], part.quantity) for part in components]
    if unknown := [part for part, weight in zip(components, worth, strict=True) if weight is None]:
        faults = [Fault("needs a cost: none was ever stated", f"{part.pointer}/{part.item_field}") for part in unknown]
        raise CostUnknownProblem("The value is shared by what each component is worth.", *faults[:MOST_FAULTS])
    costs = valuation.parts_of(value, [weight or valuation.ZERO for weight in worth])
    lines = [_line("IN", part, body, occurred_at, cost) for part, cost in zip(components, costs, strict=True)]
    return [_line("OUT", kit, body, occurred_at), *lines]


def _issued(item: valuation.ItemValue, part: _Part) -> valuation.Effect:
    try:
        return valuation.issue(item, part.quantity)
    except CostUnknown:
        fault = Fault("needs a cost: none was ever stated for this item", f"{part.pointer}/{part.item_field}")
        raise CostUnknownProblem(f"What one {part.item.sku} costs was never stated.", fault) from None
    except DoesNotFit as exc:
        raise errors.Invalid(None, Fault(str(exc), f"{part.pointer}/quantity")) from None


def _line(
    kind: LineKind, part: _Part, body: Assembly, occurred_at: datetime, cost: Decimal | None = None
) -> PostingLine:
    return PostingLine(
        kind=kind,
        item=part.item,
        location=part.location,
        quantity=part.quantity,
        cost=cost,
        occurred_at=occurred_at.astimezone(UTC),
        reference_no=body.reference_no,
        notes=body.notes,
        metadata=body.metadata or {},
        origin="ASSEMBLY",
        pointer=part.pointer,
    )
