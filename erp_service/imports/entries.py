"""The ledger's entries of imported movements, as text for COPY; the ledger's own functions compute them."""

import io
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from uuid_utils.compat import uuid7

from erp_service.decimals import shortest
from erp_service.imports.files.faults import Faults
from erp_service.imports.movement_rows import MovementRow
from erp_service.inventory.posting import lines
from erp_service.inventory.posting.row_locks import BalanceKey, LockedRows
from erp_service.inventory.posting.service import status_fault
from erp_service.inventory.posting.schemas import MOST_MOVEMENTS
from erp_service.inventory.posting.valuation import SETTLEMENT, Balance, DoesNotFit, NotEnough

_RECENT_DOCUMENTS = 10_000
_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Batch(NamedTuple):
    """Documents and entries in the text format of COPY; `row_count` is that of the file up to the end of the batch."""

    documents: str
    entries: str
    row_count: int


class _Documents:
    """Which document each row belongs to, and its line there."""

    def __init__(self) -> None:
        self._id, self._line = "", 0
        self._occurred_at, self._reference_no = datetime.min.replace(tzinfo=UTC), ""
        self._recent: OrderedDict[str, None] = OrderedDict()

    def place(self, row: MovementRow) -> tuple[str, int, bool]:
        """The id of the row's document, its line, and whether it is the first row of the document."""
        if row.document:
            is_new = row.document not in self._recent
            self._recent[row.document] = None
            # in an export the rows of documents that were posted at the same moment are mixed, within a short distance
            if len(self._recent) > _RECENT_DOCUMENTS:
                self._recent.popitem(last=False)
            return row.document, row.line, is_new
        self._line += 1
        same = row.reference_no and row.reference_no == self._reference_no and row.occurred_at == self._occurred_at
        if same and self._line <= MOST_MOVEMENTS:
            return self._id, self._line, False
        self._occurred_at, self._reference_no = row.occurred_at, row.reference_no
        self._id, self._line = str(uuid7()), 1
        return self._id, self._line, True


class Poster:
    """Applies rows to the balances in memory, which it brings up to date, and makes the entries to copy."""

    def __init__(
        self,
        locked_rows: LockedRows,
        balances: dict[BalanceKey, Balance],
        user_id: int | None,
        faults: Faults,
        *,
        history: bool,
    ) -> None:
        self._locked_rows, self._balances, self._faults = locked_rows, balances, faults
        self._user = _NULL if user_id is None else str(user_id)
        self._history = history
        self.has_shortage = False

    def batches(self, rows: Iterator[MovementRow | None], batch_size: int) -> Iterator[Batch]:
        """What to copy, in the order of the rows."""
        documents, entries, placed = io.StringIO(), io.StringIO(), _Documents()
        count = 0
        for count, row in enumerate(rows, 1):
            if row is None:
                continue
            document, line, is_new = placed.place(row)
            if is_new:
                documents.write(f"{document}\t{self._user}\n")
            start = f"{document}\t{line}\t{row.occurred_at.isoformat()}\t{_text(row.reference_no)}\t{self._user}"
            try:
                for entry in self._entries(row):
                    entries.write(f"{start}\t{entry}\n")
            except NotEnough as short:
                self.has_shortage = True
                detail = f"only {shortest(short.available)} of {row.sku} at {row.location}"
                self._faults.add(row.number, "quantity", detail)
            except DoesNotFit as exc:
                self._faults.add(row.number, "quantity", str(exc))
            if not count % batch_size:
                yield Batch(documents.getvalue(), entries.getvalue(), count)
                documents, entries = io.StringIO(), io.StringIO()
        yield Batch(documents.getvalue(), entries.getvalue(), count)

    def _entries(self, row: MovementRow) -> Iterator[str]:
        """The columns of each entry that come from the row itself, not from its document."""
        item, cost, locations = self._locked_rows.items[row.sku], row.unit_cost, self._locked_rows.locations
        line = lines.PostingLine(
            kind=row.type,
            item=item,
            location=locations[row.location],
            to_location=locations[row.to_location] if row.to_location else None,
            quantity=row.quantity,
            unit_cost=cost,
            value=row.value,
            occurred_at=row.occurred_at,
        )
        # the rule of the API, which an import of the past may leave out, since the item was active then
        if item.status != "ACTIVE" and not self._history and (fault := status_fault(line)) is not None:
            self._faults.add(row.number, "sku", f"{fault}; --history takes movements of the past")
        metadata = row.metadata.replace("\\", "\\\\")  # JSON has escaped all other characters that COPY would escape
        common = f"{item.id}\t{_text(row.notes)}\t{metadata}"
        for kind, location, part in lines.steps(line, self._balances):
            if part.quantity:
                own = f"{kind}\t{_NULL if cost is None else cost}\t{_text(row.reason)}"
            else:
                own = f"ADJUSTMENT\t{_NULL}\t{SETTLEMENT}"
            # str() of a Decimal takes a third of the time of formatting it
            amounts = f"{part.quantity!s}\t{part.value!s}\t{part.on_hand_after!s}\t{part.value_after!s}"
            yield f"{common}\t{own}\t{location.id}\t{amounts}"


def _text(text: str) -> str:
    return text.translate(_ESCAPES) if text else _NULL
