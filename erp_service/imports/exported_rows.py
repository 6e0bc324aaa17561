"""Rows of our own export of stock movements, read back as movements.

An export has the ledger's entries, which are more than was posted: both ends of a transfer, and settlements. So the
two ends become one movement again, settlements are left out, since posting makes them again, and every movement is
posted at the value that it had: a receipt cost it, what was found or came back brings it, what goes out takes it.
Documents keep their ids, so the same movement is never posted twice.
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, get_args
from uuid import UUID

import msgspec

from erp_service.decimals import MONEY_SCALE, QUANTITY_SCALE, UnitCost, parse
from erp_service.imports.csv_table import Row, Table
from erp_service.imports.files.dialect import number_text, word
from erp_service.imports.files.faults import Faults
from erp_service.imports.files.header import Layout
from erp_service.imports.movement_rows import REASON, CellReader, MovementRow, read_word, text_reader, timestamp_reader
from erp_service.imports.row_order import RowOrder
from erp_service.inventory.posting.lines import LineKind
from erp_service.inventory.posting.schemas import (
    MOST_MOVEMENTS,
    NOTES_LENGTH,
    REASON_LENGTH,
    REFERENCE_LENGTH,
)
from erp_service.inventory.schemas import (
    IDENTIFIER_LENGTH,
    METADATA_KEY_LENGTH,
    METADATA_MEMBERS,
    METADATA_VALUE_LENGTH,
    EntryOrigin,
)

EXPORTED = Layout(
    required=("occurred_at", "transaction_type", "transaction_id", "line", "sku", "location", "quantity", "value"),
    optional=("unit_cost", "reference_no", "notes", "reason", "metadata", "id", "origin"),
    read_only=(
        *("name", "unit", "recorded_at", "user_id", "reverses_id", "not_covered"),
        *("on_hand_after", "item_on_hand_after", "value_after"),
    ),
)
_TYPES = ("IN", "OUT", "TRANSFER_IN", "TRANSFER_OUT", "ADJUSTMENT")
_ORIGINS: tuple[EntryOrigin, ...] = get_args(EntryOrigin)
_INCOMING = {"IN": True, "TRANSFER_IN": True, "OUT": False, "TRANSFER_OUT": False}
_LARGEST_ID = 2**63 - 1


class Entry(NamedTuple):
    """One entry of the ledger, with the line of the file that it stands on."""

    occurred_at: datetime
    type: str
    document: str
    line: int
    sku: str
    location: str
    quantity: Decimal
    value: Decimal
    unit_cost: Decimal | None
    reference_no: str
    notes: str
    reason: str
    metadata: str
    id: int | None
    origin: EntryOrigin | None
    number: int

    @property
    def key(self) -> tuple[str, int]:
        """What the two ends of a transfer have in common."""
        return self.document, self.line

    @property
    def is_settlement(self) -> bool:
        """Before entries told their origin, an adjustment of zero was nothing else."""
        return self.origin == "SETTLEMENT" or (not self.quantity and self.origin is None)

    @property
    def movement(self) -> MovementRow:
        kind: LineKind = "TRANSFER" if self.type == "TRANSFER_OUT" else self.type  # type: ignore[assignment]
        if not self.quantity:
            kind = "REVALUATION"
        return MovementRow(
            self.occurred_at,
            kind,
            self.sku,
            self.location,
            self.quantity if kind == "ADJUSTMENT" else abs(self.quantity),
            "",
            self.unit_cost,
            self.value if kind == "REVALUATION" else abs(self.value),
            self.reference_no,
            self.notes,
            self.reason or (REASON if kind == "ADJUSTMENT" else ""),
            self.metadata,
            self.document,
            self.line,
            self.number,
            "",
            self.origin,
        )


def rows(
    table: Table, faults: Faults, now: datetime, source: Iterator[Row], order: RowOrder | None
) -> Iterator[MovementRow | None]:
    """Each movement, a transfer when both of its ends were read; None for a row that is wrong, which `faults` names.

    `order` is told the place of each row, by id if the file has ids."""
    readers = _readers(table, now)
    waiting: dict[tuple[str, int], Entry] = {}
    for number, texts, _ in source:
        if (entry := _entry(number, texts, readers, faults)) is None:
            yield None
            continue
        if order is not None:
            order.add(entry.occurred_at if entry.id is None else entry.id, table.position)
        if entry.type not in ("TRANSFER_IN", "TRANSFER_OUT"):
            if not entry.is_settlement:
                yield entry.movement
            continue
        if (other := waiting.pop(entry.key, None)) is None:
            waiting[entry.key] = entry
            continue
        yield _transfer(entry, other, faults)
    for entry in waiting.values():
        detail = "the other end of the transfer is missing: export both locations, or leave it out"
        faults.add(entry.number, "transaction_type", detail)


def _transfer(entry: Entry, other: Entry, faults: Faults) -> MovementRow | None:
    outgoing, incoming = (entry, other) if entry.type == "TRANSFER_OUT" else (other, entry)
    matches = outgoing.sku == incoming.sku and outgoing.location != incoming.location
    amounts_match = outgoing.quantity == -incoming.quantity and outgoing.value == -incoming.value
    if incoming.type != "TRANSFER_IN" or not matches or not amounts_match:
        faults.add(entry.number, None, f"does not fit the other end of the transfer on line {other.number}")
        return None
    return outgoing.movement._replace(to_location=incoming.location)


def _entry(number: int, texts: tuple[str, ...], readers: tuple[CellReader, ...], faults: Faults) -> Entry | None:
    values: list[object] = []
    for column, read, text in zip(EXPORTED.known, readers, texts, strict=True):
        try:
            values.append(read("", text))
        except ValueError as error:
            faults.add(number, column, str(error))
    if len(values) < len(readers):
        return None
    entry = Entry._make([*values, number])
    if not entry.location and (entry.quantity or entry.type != "ADJUSTMENT"):
        faults.add(number, "location", "is missing: only a change of value is at none")
        return None
    incoming = _INCOMING.get(entry.type, entry.quantity > 0)
    if entry.type != "ADJUSTMENT" and not entry.quantity:
        faults.add(number, "quantity", "must not be zero")
        return None
    if entry.quantity and ((entry.quantity > 0) != incoming or entry.value * entry.quantity < 0):
        faults.add(
            number, "quantity", "its sign fits neither the type nor the value: exports have what goes out below zero"
        )
        return None
    return entry


def _readers(table: Table, now: datetime) -> tuple[CellReader, ...]:
    """One for each column of the layout, in its order."""

    def number(scale: int) -> CellReader:
        return lambda _kind, text: parse(number_text(text, table.dialect), scale=scale)

    def unit_cost(_kind: str, text: str) -> Decimal | None:
        return Decimal(UnitCost.read(number_text(text, table.dialect))) if text else None

    return (
        *(
            timestamp_reader(now, table.dialect.zone),
            lambda _kind, text: word(text, _TYPES),
            _read_document,
            _read_line,
        ),
        *(read_word, text_reader(IDENTIFIER_LENGTH), number(QUANTITY_SCALE), number(MONEY_SCALE), unit_cost),
        *(
            text_reader(REFERENCE_LENGTH),
            text_reader(NOTES_LENGTH),
            text_reader(REASON_LENGTH),
            _read_metadata,
            _read_id,
            lambda _kind, text: word(text, _ORIGINS) if text else None,
        ),
    )


def _read_document(_kind: str, text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("is not the id of a document") from None


def _read_line(_kind: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 10 * MOST_MOVEMENTS:
        raise ValueError("is not the number of a line in a document")
    return int(text)


def _read_id(_kind: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) > _LARGEST_ID:
        raise ValueError("is not the id of an entry")
    return int(text)


def _read_metadata(_kind: str, text: str) -> str:
    if text in ("", "{}"):
        return "{}"
    try:
        members = msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError:
        raise ValueError("is not a flat JSON object of texts") from None
    too_long = any(
        len(key) > METADATA_KEY_LENGTH or len(value) > METADATA_VALUE_LENGTH for key, value in members.items()
    )
    if len(members) > METADATA_MEMBERS or too_long:
        raise ValueError(
            f"has more than {METADATA_MEMBERS} members, or a key or value of more than"
            f" {METADATA_KEY_LENGTH} or {METADATA_VALUE_LENGTH} characters"
        )
    return msgspec.json.encode(members, order="deterministic").decode()
