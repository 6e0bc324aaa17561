"""The rules of posting: which rows a request names, what it says in the item's unit and as money, which movements an
item's status allows. The ledger applies the lines that come out of it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple, TypeAlias

from msgspec import Struct

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault
from erp_service.inventory.posting import ledger
from erp_service.inventory.posting.lines import LineKind, PostingLine, Revalue
from erp_service.inventory.posting.periods import refuse_closed
from erp_service.inventory.posting.references import ItemReference, LocationReference, item_references
from erp_service.inventory.posting.row_locks import LockedItem, LockedRows, Wanted, lock_rows
from erp_service.inventory.posting.schemas import (
    AHEAD,
    EARLIEST,
    Adjustment,
    AtOneLocation,
    Document,
    Issue,
    Receipt,
    Revaluation,
    Transfer,
)
from erp_service.inventory.posting.valuation import ZERO, cost_of
from erp_service.inventory.problems import ItemNotActive
from erp_service.inventory.reservations.uses import use_reservations
from erp_service.inventory.units import UnitFault, cost_in_item_unit, in_item_unit
from erp_service.validation import MOST_FAULTS

AnyMovement: TypeAlias = Receipt | Issue | Transfer | Adjustment | Revaluation
PointerAndMovement: TypeAlias = tuple[str, AnyMovement]
"""The JSON pointer to a movement in the request's body, and the movement."""


async def post_one(db: WriteSession, who: Principal, movement: AnyMovement) -> Document:
    """Post one movement as a document of its own. Raises what `post_all` raises."""
    return await _post(db, who, [("", movement)])


async def post_all(db: WriteSession, who: Principal, movements: Sequence[AnyMovement]) -> Document:
    """Post the movements in their order, all or none.

    Raises errors.Invalid, which names every bad line; errors.Forbidden for adjustments and revaluations if `who` is not
    an ADMIN; ItemNotActive; PeriodClosed; InsufficientStock, which points to the first line that takes more than there
    is."""
    with_pointers = [(f"/movements/{index}", movement) for index, movement in enumerate(movements)]
    if not who.role.includes(Role.ADMIN):
        reserved = Adjustment | Revaluation
        faults = [Fault("needs the role ADMIN", pointer) for pointer, m in with_pointers if isinstance(m, reserved)]
        if faults:
            raise errors.Forbidden("Adjustments and revaluations need the role ADMIN.", *faults[:MOST_FAULTS])
    return await _post(db, who, with_pointers)


async def _post(db: WriteSession, who: Principal, movements: Sequence[PointerAndMovement]) -> Document:
    items = await item_references(db, (movement for _, movement in movements))
    requests = [
        _Request(pointer, movement, item, _locations(movement))
        for (pointer, movement), item in zip(movements, items, strict=True)
    ]
    rows = await lock_rows(db, (wanted for request in requests for wanted in request.wanted()))
    faults: list[Fault] = []
    now = datetime.now(UTC)
    lines = [line for request in requests if (line := _line(request, rows, now, faults)) is not None]
    if faults:
        raise errors.Invalid(None, *faults[:MOST_FAULTS])
    faults.extend(_status_faults(lines, requests))
    if faults:
        raise ItemNotActive(None, *faults[:MOST_FAULTS])
    await refuse_closed(db, [(r.movement.occurred_at, f"{r.pointer}/occurred_at") for r in requests])
    return await ledger.post(db, who, await use_reservations(db, lines), rows)


class _Request(Struct, frozen=True, gc=False):
    """A movement, where it stands in the body, and what it names."""

    pointer: str
    movement: AnyMovement
    item: ItemReference
    locations: Sequence[LocationReference]
    """Of a transfer both, the source first; of a revaluation none."""

    def wanted(self) -> Iterator[Wanted]:
        if not self.locations:
            yield Wanted(self.item.key, None)
        for location in self.locations:
            yield Wanted(self.item.key, location.key, valued=not isinstance(self.movement, Transfer))


def _locations(movement: AnyMovement) -> list[LocationReference]:
    m = movement
    if isinstance(m, AtOneLocation):
        return [LocationReference("location_id", "location", m.location_id, m.location)]
    if isinstance(m, Revaluation):
        return []
    return [
        LocationReference("from_location_id", "from_location", m.from_location_id, m.from_location),
        LocationReference("to_location_id", "to_location", m.to_location_id, m.to_location),
    ]


def _line(request: _Request, rows: LockedRows, now: datetime, faults: list[Fault]) -> PostingLine | None:
    """The movement as the ledger takes it. None if it has faults; they are added to `faults`."""
    fault_count = len(faults)
    pointer, movement = request.pointer, request.movement
    item = request.item.resolve(rows.items, pointer, faults)
    locations = [reference.resolve(rows.locations, pointer, faults) for reference in request.locations]
    location, to_location = (*locations, None, None)[:2]
    occurred_at = movement.occurred_at or now
    if location is not None and location == to_location:
        detail = "must be another location than the one that the stock comes from"
        faults.append(Fault(detail, f"{pointer}/{request.locations[1].field}"))
    faults.extend(_own_faults(movement, pointer))
    if not EARLIEST <= occurred_at <= now + AHEAD:
        faults.append(Fault("must lie between 1900 and 5 minutes from now", f"{pointer}/occurred_at"))
    figures = None if item is None else _figures(movement, item, pointer, faults)
    if len(faults) > fault_count or item is None or figures is None:
        return None
    return PostingLine(
        kind=_kind(movement),
        item=item,
        location=location,
        to_location=to_location,
        quantity=figures.quantity,
        cost=figures.cost,
        unit_cost=figures.unit_cost,
        revaluation=figures.revaluation,
        occurred_at=occurred_at.astimezone(UTC),
        reference_no=movement.reference_no,
        notes=movement.notes,
        reason=movement.reason if isinstance(movement, Adjustment | Revaluation) else None,
        metadata=movement.metadata or {},
        origin="REVALUATION" if isinstance(movement, Revaluation) else None,
        reservation_id=movement.reservation_id if isinstance(movement, Issue) else None,
        pointer=pointer,
    )


def _kind(movement: AnyMovement) -> LineKind:
    match movement:
        case Receipt():
            return "IN"
        case Issue():
            return "OUT"
        case Transfer():
            return "TRANSFER"
        case Adjustment():
            return "ADJUSTMENT"
        case Revaluation():
            return "REVALUATION"


def _own_faults(movement: AnyMovement, pointer: str) -> Iterator[Fault]:
    """What is wrong with the movement whatever the stock is."""
    if isinstance(movement, Receipt | Adjustment) and None not in (movement.unit_cost, movement.total_cost):
        yield Fault("give unit_cost or total_cost, not both", f"{pointer}/total_cost")
    if isinstance(movement, Adjustment):
        if not movement.quantity:
            yield Fault("must not be zero", f"{pointer}/quantity")
        for name in ("unit_cost", "total_cost"):
            if movement.quantity < 0 and getattr(movement, name) is not None:
                yield Fault("what is missing goes at moving average, without a cost", f"{pointer}/{name}")
    if isinstance(movement, Revaluation):
        given = [name for name in ("difference", "value", "unit_value") if getattr(movement, name) is not None]
        if not given:
            yield Fault("is missing: give difference, value or unit_value", f"{pointer}/difference")
        elif len(given) > 1:
            yield Fault(f"give {given[0]} or {given[1]}, not both", f"{pointer}/{given[1]}")
        if movement.quantity is not None and movement.difference is None:
            yield Fault("says what a difference belongs to, and there is none", f"{pointer}/quantity")
        if movement.unit is not None and movement.quantity is None and movement.unit_value is None:
            yield Fault("is the unit of nothing: there is neither a quantity nor a unit_value", f"{pointer}/unit")


class _Figures(NamedTuple):
    """A movement's numbers, in the item's unit and as money."""

    quantity: Decimal = ZERO
    cost: Decimal | None = None
    unit_cost: Decimal | None = None
    revaluation: Revalue | None = None


def _figures(movement: AnyMovement, item: LockedItem, pointer: str, faults: list[Fault]) -> _Figures | None:
    """None if the item is not counted so, which is then among the faults."""
    m = movement
    try:
        if isinstance(m, Revaluation):
            quantity = None if m.quantity is None else in_item_unit(item, m.quantity, m.unit)
            unit_value = None if m.unit_value is None else cost_in_item_unit(item, m.unit_value, m.unit)
            return _Figures(revaluation=Revalue(m.difference, quantity, m.value, unit_value))
        quantity = in_item_unit(item, m.quantity, m.unit)
        if isinstance(m, Receipt | Adjustment) and m.quantity > 0:
            unit_cost = None if m.unit_cost is None else cost_in_item_unit(item, m.unit_cost, m.unit)
            cost = m.total_cost if m.unit_cost is None else cost_of(m.quantity, m.unit_cost)
            return _Figures(quantity, cost, unit_cost)
    except UnitFault as fault:
        faults.append(Fault(str(fault), f"{pointer}/{fault.field}"))
        return None
    return _Figures(quantity)


def _status_faults(lines: Sequence[PostingLine], requests: Sequence[_Request]) -> Iterator[Fault]:
    for line, request in zip(lines, requests, strict=True):
        if (detail := status_fault(line)) is not None:
            yield Fault(detail, f"{request.pointer}/{request.item.field}")


def status_fault(line: PostingLine) -> str | None:
    """Why the item's status does not allow the movement; None if it does."""
    if line.item.status == "INACTIVE" and line.kind not in ("ADJUSTMENT", "REVALUATION"):
        return f"{line.item.sku} is INACTIVE and takes adjustments only"
    if line.item.status == "DISCONTINUED" and line.kind == "IN":
        return f"{line.item.sku} is DISCONTINUED and takes no more receipts"
    return None
