"""The ledger's entries of imported movements, as text for COPY; the ledger's own functions compute them."""

import io
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from uuid_utils.compat import uuid7

from erp_service.decimals import QUANTITY_SCALE, shortest
from erp_service.imports.files.faults import Faults
from erp_service.imports.movement_rows import MovementRow
from erp_service.inventory.posting import lines
from erp_service.inventory.posting.lines import NotEnough, PostingLine, Revalue
from erp_service.inventory.posting.row_locks import BalanceKey, LockedRows
from erp_service.inventory.posting.schemas import MOST_MOVEMENTS
from erp_service.inventory.posting.service import status_fault
from erp_service.inventory.posting.valuation import CostUnknown, DoesNotFit, cost_of
from erp_service.inventory.units import UnitFault, cost_in_item_unit, in_item_unit

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
    """Applies rows to the locked stock in memory, which it brings up to date, and makes the entries to copy."""

    def __init__(
        self, locked_rows: LockedRows, user_id: int | None, import_id: int, faults: Faults, *, history: bool
    ) -> None:
        self._rows, self._import_id, self._faults = locked_rows, import_id, faults
        self._user = _NULL if user_id is None else str(user_id)
        self._history = history
        self.has_shortage = False
        self.earliest = datetime.max.replace(tzinfo=UTC)
        """The earliest `occurred_at` of all rows."""
        self.dated_back_lines: dict[BalanceKey, int] = {}
        """For each balance from which something goes out at an earlier time, the first line that does so."""

    def batches(self, rows: Iterator[MovementRow | None], batch_size: int) -> Iterator[Batch]:
        """What to copy, in the order of the rows."""
        documents, entries, placed = io.StringIO(), io.StringIO(), _Documents()
        count = 0
        for count, row in enumerate(rows, 1):
            if row is None:
                continue
            document, line, is_new = placed.place(row)
            if is_new:
                documents.write(f"{document}\t{self._user}\t{self._import_id}\n")
            start = f"{document}\t{line}\t{row.occurred_at.isoformat()}\t{_text(row.reference_no)}\t{self._user}"
            try:
                for entry in self._entries(row):
                    entries.write(f"{start}\t{entry}\n")
            except (NotEnough, CostUnknown, UnitFault, DoesNotFit) as exc:
                self._name_fault(row, exc)
            if not count % batch_size:
                yield Batch(documents.getvalue(), entries.getvalue(), count)
                documents, entries = io.StringIO(), io.StringIO()
        yield Batch(documents.getvalue(), entries.getvalue(), count)

    def _name_fault(self, row: MovementRow, exc: NotEnough | CostUnknown | UnitFault | DoesNotFit) -> None:
        """Why the row cannot be posted."""
        match exc:
            case NotEnough():
                self.has_shortage = True
                detail = f"only {shortest(exc.available)} of {row.sku} at {exc.at.code}"
                self._faults.add(row.number, "quantity", detail)
            case CostUnknown():
                detail = f"say what it costs (0 if it was free): no cost of {row.sku} was ever stated"
                self._faults.add(row.number, "unit_cost", detail)
            case UnitFault():
                self._faults.add(row.number, exc.field, str(exc))
            case DoesNotFit():
                self._faults.add(row.number, "quantity", str(exc))

    def _entries(self, row: MovementRow) -> Iterator[str]:
        """The columns of each entry that come from the row itself, not from its document."""
        line = self._line(row)
        item, cost = line.item, line.unit_cost
        # the rule of the API, which an import of the past may leave out, since the item was active then
        if item.status != "ACTIVE" and not self._history and (fault := status_fault(line)) is not None:
            self._faults.add(row.number, "sku", f"{fault}; --history takes movements of the past")
        metadata = row.metadata.replace("\\", "\\\\")  # JSON has escaped all other characters that COPY would escape
        common = f"{item.id}\t{_text(row.notes)}\t{metadata}"
        origin = row.origin or _NULL
        if row.occurred_at < self.earliest:
            self.earliest = row.occurred_at
        known = len(self._rows.dated_back)
        for step in lines.steps(line, self._rows):
            if step.settles is None:
                own = f"{step.entry_type}\t{_NULL if cost is None else cost}\t{_text(row.reason)}\t{origin}"
            else:
                own = f"ADJUSTMENT\t{_NULL}\t{step.settles}\tSETTLEMENT"
            place, there, of_item, worth = _NULL, _NULL, _NULL, _NULL
            # str() of a Decimal takes a third of the time of formatting it
            if step.location is not None:
                place, there = str(step.location.id), str(step.on_hand_after)
            if step.value_after is not None:
                of_item, worth = str(step.item_on_hand_after), str(step.value_after)
            yield f"{common}\t{own}\t{place}\t{step.quantity!s}\t{step.value!s}\t{there}\t{of_item}\t{worth}"
        if len(self._rows.dated_back) > known and line.location is not None:
            self.dated_back_lines[item.id, line.location.id] = row.number

    def _line(self, row: MovementRow) -> PostingLine:
        """Raises UnitFault."""
        item, locations = self._rows.items[row.sku], self._rows.locations
        quantity, unit_cost, cost, given_value, revaluation = row.quantity, row.unit_cost, row.value, None, None
        if row.unit or item.decimals < QUANTITY_SCALE:
            quantity = in_item_unit(item, quantity, row.unit or None)
        if row.type == "REVALUATION":
            cost, revaluation = None, Revalue(difference=row.value)
        elif row.document and row.type != "IN" and unit_cost is None:
            # a movement of an export has the value that it had
            cost, given_value = None, row.value
        elif cost is None and unit_cost is not None:
            cost = cost_of(row.quantity, unit_cost)
        if row.unit and unit_cost is not None:
            unit_cost = cost_in_item_unit(item, unit_cost, row.unit)
        return PostingLine(
            kind=row.type,
            item=item,
            location=locations[row.location] if row.location else None,
            to_location=locations[row.to_location] if row.to_location else None,
            quantity=quantity,
            unit_cost=unit_cost,
            cost=cost,
            given_value=given_value,
            revaluation=revaluation,
            occurred_at=row.occurred_at,
        )


def _text(text: str) -> str:
    return text.translate(_ESCAPES) if text else _NULL
