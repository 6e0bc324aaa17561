"""Using reservations up: an OUT that names one takes what it holds first, then what is available."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import text

from erp_service import errors
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array, text_array
from erp_service.errors import Fault
from erp_service.inventory.posting.lines import PostingLine
from erp_service.inventory.posting.row_locks import BalanceKey
from erp_service.inventory.reservations.problems import ReservationEnded
from erp_service.validation import MOST_FAULTS


async def use_reservations(db: WriteSession, lines: Sequence[PostingLine]) -> Sequence[PostingLine]:
    """The lines, each with what it uses up of the reservation that it names; the reservations are lowered by that.

    Their balances are locked. One that has expired and was not swept is used as well: nobody needed its stock yet.
    Raises errors.Invalid for a reservation that is not there, or is of another item or location; ReservationEnded for
    one that has ended, also by an earlier line."""
    if not any(line.reservation_id for line in lines):
        return lines
    holds = await _holds(db, lines)
    unknown = "is no reservation of this item at this location"
    if faults := [_fault(line, unknown) for line in lines if not _is_of_line(holds, line)]:
        raise errors.Invalid(None, *faults[:MOST_FAULTS])
    before = {id_: hold.quantity for id_, hold in holds.items()}
    lines = [line if line.reservation_id is None else _used(line, holds) for line in lines]
    await _write(db, {id_: hold.quantity for id_, hold in holds.items() if hold.quantity != before[id_]})
    return lines


class _Hold(Struct):
    """A reservation: its quantity shrinks line by line."""

    key: BalanceKey
    status: str
    quantity: Decimal


_HOLDS = Prepared(
    text("""
select r.id, r.item_id, r.location_id, r.status, r.quantity
from stock_reservations r join unnest(
  cast(cast(:ids as text) as uuid[]), cast(cast(:items as text) as bigint[]),
  cast(cast(:locations as text) as bigint[])
) n (id, item_id, location_id) on r.id = n.id and r.item_id = n.item_id and r.location_id = n.location_id
""")
)


async def _holds(db: WriteSession, lines: Sequence[PostingLine]) -> dict[UUID, _Hold]:
    """The reservations that lines name, of their item and location: so their balances are locked, and whoever writes a
    reservation holds the lock of its balance."""
    named = [line for line in lines if line.reservation_id is not None and line.location is not None]
    columns = {
        "ids": text_array([str(line.reservation_id) for line in named]),
        "items": number_array([line.item.id for line in named]),
        "locations": number_array([None if line.location is None else line.location.id for line in named]),
    }
    rows = await db.execute(_HOLDS, columns)
    return {id_: _Hold((item_id, at), status, quantity) for id_, item_id, at, status, quantity in rows}


def _is_of_line(holds: Mapping[UUID, _Hold], line: PostingLine) -> bool:
    """False if the line names a reservation that is not there, or, whatever another line says of it, is elsewhere."""
    if line.reservation_id is None:
        return True
    hold = holds.get(line.reservation_id)
    return hold is not None and line.location is not None and hold.key == (line.item.id, line.location.id)


def _used(line: PostingLine, holds: dict[UUID, _Hold]) -> PostingLine:
    """Raises ReservationEnded."""
    if (id_ := line.reservation_id) is None:
        return line
    hold = holds[id_]
    status = hold.status if hold.status != "ACTIVE" or hold.quantity else "USED"
    if status != "ACTIVE":
        detail = f"Reservation {id_} is {status}."
        raise ReservationEnded(detail, _fault(line, f"is {status}"), reservation_id=id_, reservation_status=status)
    used = min(line.quantity, hold.quantity)
    hold.quantity -= used
    return msgspec.structs.replace(line, reserved=used)


def _fault(line: PostingLine, detail: str) -> Fault:
    return Fault(detail, f"{line.pointer or ''}/reservation_id")


_USE = Prepared(
    text("""
update stock_reservations r set quantity = n.quantity, version = r.version + 1,
  status = case when n.quantity = 0 then 'USED' else 'ACTIVE' end,
  ended_at = case when n.quantity = 0 then statement_timestamp() end
from unnest(cast(cast(:ids as text) as uuid[]), cast(cast(:quantities as text) as numeric[])) n (id, quantity)
where r.id = n.id
""")
)


async def _write(db: WriteSession, quantities: dict[UUID, Decimal]) -> None:
    """What each of them holds from now on. The ledger lowers `reserved` of the balances by as much."""
    ids = text_array([str(id_) for id_ in quantities])
    await db.execute(_USE, {"ids": ids, "quantities": number_array(quantities.values())})
