"""Posting a document to the ledger. Only this module and imports/bulk_posting.py write stock.

The rows are locked first, in the one order of row_locks.py. The ids of the entries are assigned last, while values and
balances are locked: so the order of ids is the order of effects. Nothing here reads the ledger, so a posting costs the
same after ten movements and after ten million; only one that takes stock out at an earlier time asks it, for what came
later (history.py).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from asyncpg import CheckViolationError
from uuid_utils.compat import uuid7

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import entry_parameters
from erp_service.db.outages import constraint_of
from erp_service.db.sessions import WriteSession
from erp_service.decimals import shortest
from erp_service.errors import Fault
from erp_service.inventory.posting import history
from erp_service.inventory.posting.entries import Header, NewEntry, audit_values, new_entry, posted
from erp_service.inventory.posting.lines import NotEnough, PostingLine, Step, steps
from erp_service.inventory.posting.periods import PERIOD_OPEN, period_closed
from erp_service.inventory.posting.row_locks import BalanceKey, LockedRows
from erp_service.inventory.posting.schemas import Document
from erp_service.inventory.posting.statement import write
from erp_service.inventory.posting.valuation import CostUnknown, DoesNotFit, NothingOnHand
from erp_service.inventory.problems import CostUnknown as CostUnknownProblem
from erp_service.inventory.problems import InsufficientStock
from erp_service.inventory.reservations.expiry import sweep
from erp_service.timestamps import text_of


async def post(
    db: WriteSession,
    who: Principal,
    lines: Sequence[PostingLine],
    rows: LockedRows,
    *,
    reverses: UUID | None = None,
    reason: str | None = None,
) -> Document:
    """Apply the lines in sequence, all or none, and write them as one document, with its audit entry.

    `rows` are the locked ones of all lines, and hold what is on hand afterwards; `reason` is that of the audit entry.
    Raises InsufficientStock, PeriodClosed, CostUnknown, and errors.Invalid for what the ledger cannot hold."""
    reserves = any(balance.reserved for balance in rows.balances.values())
    await sweep(db, rows)
    entries = [new_entry(number, line, *step) for number, line in enumerate(lines, 1) for step in _apply(line, rows)]
    header = Header(uuid7(), who.user_id, reverses)
    audit_entry = entry_parameters(
        who,
        "stock.posted" if reverses is None else "stock.reversed",
        header.transaction_id,
        after=audit_values(header, entries),
        reason=reason,
    )
    plain = not reserves and all(new.is_plain for new in entries)
    ids, times, recorded_at = await _write(db, header, entries, rows, audit_entry, plain=plain)
    if rows.dated_back:
        await _check_history(db, ids[0], entries, rows)
    return Document(
        transaction_id=header.transaction_id,
        recorded_at=recorded_at,
        user_id=header.user_id,
        reverses=reverses,
        reversed_by=[],
        entries=[posted(header, *written) for written in zip(entries, ids, times, strict=True)],
    )


def _apply(line: PostingLine, rows: LockedRows) -> list[tuple[int, Step]]:
    """Like `steps`, numbered, but raises refusals with pointers into the request's body."""
    pointer = None if line.pointer is None else f"{line.pointer}/quantity"
    try:
        return list(enumerate(steps(line, rows)))
    except NotEnough as short:
        available = shortest(short.available)
        raise InsufficientStock(
            f"{shortest(abs(line.quantity))} of {line.item.sku} wanted at {short.at.code}, {available} available.",
            *([] if pointer is None else [Fault(f"is more than the {available} available", pointer=pointer)]),
            available=available,
            item_id=line.item.id,
            location_id=short.at.id,
        ) from None
    except CostUnknown:
        fault = Fault("needs a cost: none was ever stated for this item", pointer=line.pointer or "")
        raise CostUnknownProblem(f"What one {line.item.sku} costs was never stated.", fault) from None
    except NothingOnHand:
        detail = "is a value of nothing: none is on hand. State unit_value, which also counts for what comes later"
        raise errors.Invalid(None, Fault(detail, f"{line.pointer or ''}/value")) from None
    except DoesNotFit as exc:
        fault = Fault(str(exc), pointer=pointer)
        raise errors.Invalid(f"{shortest(line.quantity)} of {line.item.sku} {exc}.", fault) from None


async def _check_history(db: WriteSession, first_id: int, entries: Sequence[NewEntry], rows: LockedRows) -> None:
    """Raises InsufficientStock if what is written now leaves less than zero at some moment since."""
    own = [new for new in entries if new.key in rows.dated_back]
    since: dict[BalanceKey, datetime] = {}
    for new in own:
        since[new.key] = min(since.get(new.key, new.line.occurred_at), new.line.occurred_at)
    if (short := await history.first_shortage(db, first_id, since)) is None:
        return
    culprit = next(new.line for new in own if new.key == short.key and new.step.quantity < 0)
    item, code = culprit.item, rows.locations[short.key[1]].code
    available, moment = shortest(max(short.available, Decimal(0))), text_of(short.at)
    faults = []
    if culprit.pointer is not None:
        faults.append(Fault(f"does not fit what happened until {moment}", f"{culprit.pointer}/quantity"))
    raise InsufficientStock(
        f"{item.sku} at {code} would have been below zero at {moment}: {available} could go out at that time.",
        *faults,
        available=available,
        item_id=item.id,
        location_id=short.key[1],
        breaks_at=moment,
    )


async def _write(
    db: WriteSession,
    header: Header,
    entries: Sequence[NewEntry],
    rows: LockedRows,
    audit_entry: Mapping[str, object],
    *,
    plain: bool,
) -> tuple[list[int], list[datetime], datetime]:
    """`write`, which see. Raises PeriodClosed."""
    try:
        return await write(db, header, entries, rows, audit_entry, plain=plain)
    except CheckViolationError as exc:
        if constraint_of(exc) != PERIOD_OPEN:
            raise
        raise period_closed(datetime.fromisoformat(exc.detail)) from None
