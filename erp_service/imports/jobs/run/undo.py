"""The undo of an import of movements: all its documents are reversed in one transaction, by the ledger's own rules."""

from collections.abc import Callable
from uuid import UUID

import msgspec
from sqlalchemy import text

from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.errors import Conflict, Refused
from erp_service.imports.jobs.problems import ImportUndone, NothingToUndo
from erp_service.inventory.posting.reversal import reverse
from erp_service.inventory.posting.row_locks import Wanted, lock_rows
from erp_service.inventory.posting.schemas import Reversal
from erp_service.inventory.problems import AlreadyReversed
from erp_service.validation import read_hook

_EVERY = 100  # documents between two calls of `progress`

_MARK = text("""
update imports set undone_at = now(), undone_by = cast(:user_id as bigint)
where id = :import_id and kind = 'movements' and undone_at is null returning row_count, filename
""")
# its job shows that it cannot be undone any more: a client asks by the ETag whether it has changed
_SHOW = text("update import_jobs set phase = phase where import_id = :import_id and not spec ? 'undo_of'")
_KNOWN = text("select kind, undone_at is not null from imports where id = :import_id")

# the last effect first, so that each reversal finds the stock as its document has left it
_DOCUMENTS = text("""
select e.transaction_id from stock_transactions t join stock_ledger e on e.transaction_id = t.id
where t.import_id = :import_id group by e.transaction_id order by max(e.id) desc
""")
_PLACES = text("""
select e.item_id, e.location_id, bool_or(e.entry_type not in ('TRANSFER_IN', 'TRANSFER_OUT'))
from stock_transactions t join stock_ledger e on e.transaction_id = t.id
where t.import_id = :import_id group by e.item_id, e.location_id
""")


async def undo(
    db: WriteSession, who: Principal, import_id: int, reason: str, progress: Callable[[int, int, str], None]
) -> int:
    """Returns the number of documents that were reversed; those that were reversed already are left out.

    Raises ImportUndone, NothingToUndo, and what refuses a reversal: most often errors.Conflict with the reason, such as
    stock that is not there any more. Then the transaction must be rolled back."""
    # first: of two undos at once, the second waits here, and then finds that it was done
    row = (await db.execute(_MARK, {"import_id": import_id, "user_id": who.user_id})).one_or_none()
    if row is None:
        await _refuse(db, import_id)
        raise ImportUndone
    places = await db.execute(_PLACES, {"import_id": import_id})
    # all at once, in the order that all writers keep
    await lock_rows(db, [Wanted(item, location, valued=valued) for item, location, valued in places])
    documents: list[UUID] = list(await db.scalars(_DOCUMENTS, {"import_id": import_id}))
    if not documents:
        raise NothingToUndo("The import was made by a version that did not keep which documents it made.")
    body = msgspec.convert({"reason": reason}, Reversal, dec_hook=read_hook)
    reversed_count = 0
    for number, document in enumerate(documents, 1):
        try:
            await reverse(db, who, document, body)
            reversed_count += 1
        except AlreadyReversed:
            pass
        except Refused as exc:
            raise _because(exc, document) from exc
        if not number % _EVERY or number == len(documents):
            progress(number, len(documents), "undoing")
    await db.execute(_SHOW, {"import_id": import_id})
    after = {"import_id": import_id, "documents": reversed_count}
    await record(db, who, "import.undone", import_id, after=after, reason=reason)
    return reversed_count


async def _refuse(db: WriteSession, import_id: int) -> None:
    """Raises NothingToUndo unless it is an import of movements."""
    known = (await db.execute(_KNOWN, {"import_id": import_id})).one_or_none()
    if known is None:
        raise NothingToUndo(f"There is no import {import_id}.")
    kind, _ = known
    if kind != "movements":
        raise NothingToUndo(
            f"Import {import_id} was of {kind}, which others may have used since: change them one by one."
        )


def _because(exc: Refused, document: UUID) -> Refused:
    """The refusal of one reversal as that of the whole undo, of which nothing is kept."""
    faults = "; ".join(fault.detail for fault in exc.faults)
    detail = ": ".join(part for part in (exc.detail or exc.title, faults) if part)
    return Conflict(f"Nothing is undone, since document {document} cannot be reversed: {detail}")
