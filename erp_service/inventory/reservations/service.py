"""Reserving, releasing and extending; each change with its audit entry.

Whoever reserves locks like a posting: items and locations FOR SHARE, then balances FOR UPDATE, all in the order of
posting/row_locks.py."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import text
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import entry_parameters, record, record_all
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.decimals import shortest, trimmed
from erp_service.errors import Fault
from erp_service.inventory.posting.references import LocationReference, item_references
from erp_service.inventory.posting.row_locks import (
    BalanceKey,
    LockedItem,
    LockedLocation,
    LockedRows,
    Wanted,
    lock_rows,
)
from erp_service.inventory.problems import InsufficientStock, ItemNotActive
from erp_service.inventory.reservations.expiry import lock_balances, sweep
from erp_service.inventory.reservations.problems import ReservationEnded
from erp_service.inventory.reservations.queries import balance_of, reservation_by_id
from erp_service.inventory.reservations.schemas import ReservationBody, ReservationOut
from erp_service.inventory.units import UnitFault, in_item_unit
from erp_service.validation import MOST_FAULTS


async def reserve_one(db: WriteSession, who: Principal, body: ReservationBody) -> ReservationOut:
    """Raises what `reserve_all` raises."""
    (reservation,) = await _reserve(db, who, [("", body)])
    return reservation


async def reserve_all(db: WriteSession, who: Principal, bodies: Sequence[ReservationBody]) -> list[ReservationOut]:
    """Reserve in this order, all or none: each finds available what those before it left.

    Raises errors.Invalid, which names every bad field; ItemNotActive; InsufficientStock, which points to the first that
    would hold more than is available, also where negative stock is allowed."""
    return await _reserve(db, who, [(f"/reservations/{index}", body) for index, body in enumerate(bodies)])


class _Line(Struct, frozen=True):
    """What is reserved."""

    pointer: str
    body: ReservationBody
    item_field: str
    item: LockedItem
    location: LockedLocation
    quantity: Decimal

    @property
    def key(self) -> BalanceKey:
        return self.item.id, self.location.id


async def _reserve(
    db: WriteSession, who: Principal, bodies: Sequence[tuple[str, ReservationBody]]
) -> list[ReservationOut]:
    items = await item_references(db, (body for _, body in bodies))
    locations = [LocationReference("location_id", "location", body.location_id, body.location) for _, body in bodies]
    rows = await lock_rows(
        db, [Wanted(item.key, at.key, valued=False) for item, at in zip(items, locations, strict=True)]
    )
    faults: list[Fault] = []
    lines = []
    for (pointer, body), item_reference, location_reference in zip(bodies, items, locations, strict=True):
        item = item_reference.resolve(rows.items, pointer, faults)
        location = location_reference.resolve(rows.locations, pointer, faults)
        quantity = None if item is None else _quantity(item, body, pointer, faults)
        if item is not None and location is not None and quantity is not None:
            lines.append(_Line(pointer, body, item_reference.field, item, location, quantity))
    if faults:
        raise errors.Invalid(None, *faults[:MOST_FAULTS])
    if inactive := [line for line in lines if line.item.status == "INACTIVE"]:
        faults = [Fault(f"{line.item.sku} is INACTIVE", f"{line.pointer}/{line.item_field}") for line in inactive]
        raise ItemNotActive(None, *faults[:MOST_FAULTS])
    await sweep(db, rows)
    for line in lines:
        _hold(line, rows)
    return await _write(db, who, lines, rows)


def _quantity(item: LockedItem, body: ReservationBody, pointer: str, faults: list[Fault]) -> Decimal | None:
    try:
        return in_item_unit(item, body.quantity, body.unit)
    except UnitFault as fault:
        faults.append(Fault(str(fault), f"{pointer}/{fault.field}"))
        return None


def _hold(line: _Line, rows: LockedRows) -> None:
    """Raises InsufficientStock."""
    balance = rows.balances[line.key]
    if line.quantity > (free := balance.on_hand - balance.reserved):
        available = shortest(max(free, Decimal(0)))
        raise InsufficientStock(
            f"{shortest(line.quantity)} of {line.item.sku} wanted at {line.location.code}, {available} available.",
            Fault(f"is more than the {available} available", f"{line.pointer}/quantity"),
            available=available,
            item_id=line.item.id,
            location_id=line.location.id,
        )
    rows.balances[line.key] = msgspec.structs.replace(balance, reserved=balance.reserved + line.quantity)


# the times are those of this statement, since the transaction may have waited for its locks
_WRITE = Prepared(
    text("""
with balances as (
  update stock_balances b set reserved = n.reserved
  from unnest(
    cast(cast(:balance_items as text) as bigint[]), cast(cast(:balance_locations as text) as bigint[]),
    cast(cast(:reserved as text) as numeric[])
  ) n (item_id, location_id, reserved)
  where b.item_id = n.item_id and b.location_id = n.location_id
)
insert into stock_reservations
  (id, item_id, location_id, quantity, original_quantity, reference, expires_at, user_id, created_at)
select n.id, n.item_id, n.location_id, n.quantity, n.quantity, n.reference,
  statement_timestamp() + n.seconds * interval '1 second', cast(:user_id as bigint), statement_timestamp()
from unnest(
  cast(cast(:ids as text) as uuid[]), cast(cast(:items as text) as bigint[]),
  cast(cast(:locations as text) as bigint[]), cast(cast(:quantities as text) as numeric[]),
  cast(cast(:references as text) as text[]), cast(cast(:seconds as text) as bigint[])
) n (id, item_id, location_id, quantity, reference, seconds)
returning id, created_at, expires_at
""")
)


async def _write(db: WriteSession, who: Principal, lines: Sequence[_Line], rows: LockedRows) -> list[ReservationOut]:
    ids: list[UUID] = [uuid7() for _ in lines]
    keys = dict.fromkeys(line.key for line in lines)
    result = await db.execute(
        _WRITE,
        {
            "balance_items": number_array([item_id for item_id, _ in keys]),
            "balance_locations": number_array([location_id for _, location_id in keys]),
            "reserved": number_array([rows.balances[key].reserved for key in keys]),
            "ids": text_array([str(id_) for id_ in ids]),
            "items": number_array([line.item.id for line in lines]),
            "locations": number_array([line.location.id for line in lines]),
            "quantities": number_array([line.quantity for line in lines]),
            "references": text_array([line.body.reference for line in lines]),
            "seconds": number_array([line.body.expires_in_seconds for line in lines]),
            "user_id": who.user_id,
        },
    )
    times = {id_: (created_at, expires_at) for id_, created_at, expires_at in result}
    reservations = [
        ReservationOut(
            id=id_,
            item_id=line.item.id,
            sku=line.item.sku,
            location_id=line.location.id,
            location=line.location.code,
            status="ACTIVE",
            quantity=trimmed(line.quantity),
            original_quantity=trimmed(line.quantity),
            unit=line.item.unit,
            reference=line.body.reference,
            created_at=times[id_][0],
            expires_at=times[id_][1],
            ended_at=None,
            user_id=who.user_id,
            version=1,
        )
        for id_, line in zip(ids, lines, strict=True)
    ]
    await record_all(db, [entry_parameters(who, "reservation.created", one.id, after=one) for one in reservations])
    return reservations


class Locked(NamedTuple):
    """A reservation that nobody else changes before the transaction ends, and its balance."""

    reservation: ReservationOut
    rows: LockedRows


async def lock_for_update(db: WriteSession, reservation_id: UUID) -> Locked:
    """Raises errors.NotFound."""
    rows = await lock_balances(db, [await balance_of(db, reservation_id)])
    # read only now: whoever changed it before held the balance
    return Locked(await reservation_by_id(db, reservation_id), rows)


_RELEASE = Prepared(
    text("""
with released as (
  update stock_reservations set status = 'RELEASED', ended_at = statement_timestamp(), version = version + 1
  where id = cast(:id as uuid) and status = 'ACTIVE' returning item_id, location_id, quantity
)
update stock_balances b set reserved = b.reserved - r.quantity
from released r where b.item_id = r.item_id and b.location_id = r.location_id
""")
)


def holds_nothing(reservation: ReservationOut) -> bool:
    """Whether it gave back its stock already, so that nothing is left to release."""
    return reservation.status in ("RELEASED", "EXPIRED")


async def release(db: WriteSession, who: Principal, locked: Locked) -> None:
    """What it holds is available again; one that holds nothing any more is left as it is.

    Raises ReservationEnded if it was used up: its stock is gone, and not available."""
    before = locked.reservation
    if before.status == "USED":
        raise _ended(before)
    await sweep(db, locked.rows)
    if not holds_nothing(before):
        await db.execute(_RELEASE, {"id": before.id})
        after = await reservation_by_id(db, before.id)
        await record(db, who, "reservation.released", before.id, before=before, after=after)


# of one that had expired the version that a reader saw was one more already (live.py)
_EXTEND = Prepared(
    text("""
update stock_reservations set
  expires_at = statement_timestamp() + cast(:seconds as bigint) * interval '1 second',
  version = version + case when expires_at <= statement_timestamp() then 2 else 1 end
where id = cast(:id as uuid) and status = 'ACTIVE' returning id
""")
)


async def extend(db: WriteSession, who: Principal, locked: Locked, seconds: int) -> ReservationOut:
    """It expires so many seconds from now. One that has expired holds again, if nobody needed its stock since.

    Raises ReservationEnded if it was used up or released, or its stock was given to others."""
    before = locked.reservation
    if not await db.execute(_EXTEND, {"id": before.id, "seconds": seconds}):
        raise _ended(before)
    # after it was extended, so that of what has expired only others are ended
    await sweep(db, locked.rows)
    (balance,) = locked.rows.balances.values()
    if before.status == "EXPIRED" and balance.reserved > balance.on_hand:
        raise _ended(before)
    after = await reservation_by_id(db, before.id)
    await record(db, who, "reservation.extended", before.id, before=before, after=after)
    return after


def _ended(reservation: ReservationOut) -> ReservationEnded:
    return ReservationEnded(
        f"Reservation {reservation.id} is {reservation.status}.",
        reservation_id=reservation.id,
        reservation_status=reservation.status,
    )
