"""Rows of a file of movements: checked by the rules of a request's body. bulk_posting.py posts them.

The rules are those of inventory/posting/schemas.py, and a test compares the two. They are written out here for speed,
since files have very many rows.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple, TypeAlias, get_args
from zoneinfo import ZoneInfo

import msgspec

from erp_service.decimals import Money, Quantity, SignedQuantity, UnitCost
from erp_service.imports.csv_table import Row, Table
from erp_service.imports.files.dialect import Dialect, number_text
from erp_service.imports.files.faults import Faults
from erp_service.imports.files.header import Layout
from erp_service.inventory.posting.lines import LineKind, MovementKind
from erp_service.inventory.posting.schemas import (
    AHEAD,
    EARLIEST,
    NOTES_LENGTH,
    REASON_LENGTH,
    REFERENCE_LENGTH,
)
from erp_service.inventory.schemas import (
    IDENTIFIER_LENGTH,
    METADATA_VALUE_LENGTH,
    EntryOrigin,
)
from erp_service.texts import as_identifier, as_name

LAYOUT = Layout(
    required=("occurred_at", "type", "sku", "location", "quantity"),
    optional=("to_location", "unit_cost", "total_cost", "reference_no", "notes", "reason", "unit"),
    keeps_extras=True,
)
_TYPE, _LOCATION, _QUANTITY, _TO_LOCATION, _UNIT_COST, _TOTAL_COST = (
    LAYOUT.known.index(name) for name in ("type", "location", "quantity", "to_location", "unit_cost", "total_cost")
)
_TYPES: tuple[MovementKind, ...] = get_args(MovementKind)
_WITH_COST = ("IN", "ADJUSTMENT")
_NO_COST = "only what comes in has a cost: an IN, or an ADJUSTMENT above zero"
REASON = "imported"
"""The reason of an adjustment whose row states none."""

# RFC 3339, with the blank that it allows instead of the T; fromisoformat alone takes week dates, commas and more
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
# what a spreadsheet makes of one, or a person writes: without a zone, perhaps without a time
_LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?", re.ASCII)
_json = msgspec.json.Encoder(order="deterministic")
_NO_METADATA = "{}"

CellReader: TypeAlias = Callable[[str, str], object]
"""Makes a value of a movement's type and the text of one column. Raises ValueError that says what is wrong."""


class MovementRow(NamedTuple):
    """One movement, valid by itself; `number` is its line in the file.

    `occurred_at` is in UTC, `metadata` is a JSON object; texts are "" for none."""

    occurred_at: datetime
    type: LineKind
    sku: str
    location: str
    quantity: Decimal
    to_location: str
    unit_cost: Decimal | None
    value: Decimal | None
    """What all of it cost, or was worth in an export, at least zero; None: by unit cost, or at the average."""
    reference_no: str
    notes: str
    reason: str
    metadata: str
    document: str
    """The id of its document, and its line there, in an export; "": rows of one time and reference are a document."""
    line: int
    number: int
    unit: str
    """Of the quantity and the unit cost; "" for the item's."""
    origin: EntryOrigin | None
    """In an export, what made the entry."""

    @property
    def content(self) -> tuple[object, ...]:
        """What the row says, wherever it stands. What was added later counts only if it is there: so files that were
        imported before are known again."""
        if self.unit or self.origin:
            return (*self[:-3], self.unit, self.origin or "")
        return self[:-3]


def rows(
    table: Table, faults: Faults, now: datetime, source: Iterator[Row] | None = None
) -> Iterator[MovementRow | None]:
    """Each row in file order; None for one that is wrong, and then `faults` names all that is wrong with it.

    `source` are the table's rows in another order. The row's record is the table's `position` when it is yielded."""
    readers, explaining = (_readers(now, table.dialect, explain=explain) for explain in (False, True))
    for number, texts, record in source or table:
        kind = texts[_TYPE]
        if kind not in _TYPES:
            kind = kind.strip().upper()
        try:
            values = [read(kind, text) for read, text in zip(readers, texts, strict=True)]
            if texts[_TO_LOCATION] == texts[_LOCATION]:
                raise ValueError("is the location itself")
            if texts[_TOTAL_COST] and texts[_UNIT_COST]:
                raise ValueError("is beside unit_cost")
            if kind == "ADJUSTMENT" and (texts[_TOTAL_COST] or texts[_UNIT_COST]) and texts[_QUANTITY].startswith("-"):
                raise ValueError(_NO_COST)
            metadata = _metadata(table.extras, record) if table.extras else _NO_METADATA
        except ValueError:
            # the fast path stops at the first fault; here all of them are named
            _name_faults(number, kind, texts, explaining, faults)
            for index, name in table.extras:
                if len(record[index]) > METADATA_VALUE_LENGTH:
                    faults.add(number, name, f"is longer than {METADATA_VALUE_LENGTH} characters")
            yield None
        else:
            *columns, unit = values
            yield MovementRow._make([*columns, metadata, "", 0, number, unit, None])


def _readers(now: datetime, dialect: Dialect, *, explain: bool) -> tuple[CellReader, ...]:
    """One for each column of the layout, in its order; to `explain`, a number with a comma is named as that."""

    def number(read: CellReader) -> CellReader:
        if not (explain or dialect.decimal_comma):
            return read
        return lambda kind, text: read(kind, number_text(text, dialect))

    return (
        *(timestamp_reader(now, dialect.zone), _read_type, read_word, read_word, number(_read_quantity)),
        *(_read_to_location, number(_read_unit_cost), number(_read_total_cost)),
        *(_read_reference, text_reader(NOTES_LENGTH), _read_reason, text_reader(IDENTIFIER_LENGTH)),
    )


def _name_faults(
    number: int, kind: str, texts: tuple[str, ...], readers: tuple[CellReader, ...], faults: Faults
) -> None:
    for column, read, text in zip(LAYOUT.known, readers, texts, strict=True):
        try:
            read(kind, text)
        except ValueError as error:
            faults.add(number, column, str(error))
    if kind == "TRANSFER" and texts[_TO_LOCATION] == texts[_LOCATION]:
        faults.add(number, "to_location", "is the location itself")
    if texts[_TOTAL_COST] and texts[_UNIT_COST]:
        faults.add(number, "total_cost", "is there beside unit_cost: give one of the two")
    if kind == "ADJUSTMENT" and (texts[_TOTAL_COST] or texts[_UNIT_COST]) and texts[_QUANTITY].startswith("-"):
        faults.add(number, "total_cost" if texts[_TOTAL_COST] else "unit_cost", _NO_COST)


def timestamp_reader(now: datetime, zone: ZoneInfo | None) -> CellReader:
    """Reads times; `zone` is the zone of those that state none. With a zone, dates are taken, and mean its midnight."""
    latest = now + AHEAD

    # cached, since the rows of one invoice have one time and follow each other
    @lru_cache(maxsize=64)
    def read_timestamp(_kind: str, text: str) -> datetime:
        try:
            if _TIMESTAMP.fullmatch(text) is not None:
                timestamp = datetime.fromisoformat(text).astimezone(UTC)
            elif _LOCAL.fullmatch(text) is None:
                raise _NotATime(
                    "is not a time with the year first, such as 2026-03-01T10:00:00Z, or with --timezone"
                    " 2026-03-01 10:00: in a spreadsheet, give the column the format yyyy-mm-dd hh:mm:ss before you"
                    " save it"
                )
            elif zone is None:
                raise _NotATime("is not a time with its zone: --timezone Europe/Berlin, or another, says which one")
            else:
                timestamp = _in_zone(datetime.fromisoformat(text), zone)
        except _NotATime:
            raise
        except (ValueError, OverflowError):
            raise ValueError("is not a valid time") from None
        if timestamp < EARLIEST:
            raise ValueError("is before 1900")
        if timestamp > latest:
            raise ValueError("is in the future")
        return timestamp

    return read_timestamp


class _NotATime(ValueError):
    """The text says no time, or not which."""


def _in_zone(local: datetime, zone: ZoneInfo) -> datetime:
    """In UTC. Raises _NotATime for a time that the clocks of the zone showed twice, or never."""
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return first
    # of a time that was skipped, the offsets are the other way around (PEP 495)
    change = "showed twice" if first < second else "skipped"
    raise _NotATime(f"is a time that the clocks of {zone.key} {change}: write it with its offset, such as +01:00")


def _read_type(kind: str, _text: str) -> str:
    if kind not in _TYPES:
        raise ValueError(f"is not one of {', '.join(_TYPES)}" if kind else "is missing")
    return kind


def read_word(_kind: str, text: str) -> str:
    if not text:
        raise ValueError("is missing")
    if len(text) > IDENTIFIER_LENGTH:
        raise ValueError(f"is longer than {IDENTIFIER_LENGTH} characters")
    return text


@lru_cache(maxsize=4096)
def _read_quantity(kind: str, text: str) -> Decimal:
    if not text:
        raise ValueError("is missing")
    read = SignedQuantity.read if kind == "ADJUSTMENT" else Quantity.read
    # converted to a plain Decimal: arithmetic on a subclass is slower
    if not (quantity := Decimal(read(text))):
        raise ValueError("must not be zero")
    return quantity


def _read_to_location(kind: str, text: str) -> str:
    if kind == "TRANSFER":
        return read_word(kind, text)
    if text:
        raise ValueError("only a TRANSFER goes to another location")
    return ""


@lru_cache(maxsize=4096)
def _read_unit_cost(kind: str, text: str) -> Decimal | None:
    if not text:
        return None
    if kind not in _WITH_COST:
        raise ValueError(_NO_COST)
    return Decimal(UnitCost.read(text))


@lru_cache(maxsize=4096)
def _read_total_cost(kind: str, text: str) -> Decimal | None:
    if not text:
        return None
    if kind not in _WITH_COST:
        raise ValueError(_NO_COST)
    return Decimal(Money.read(text))


def text_reader(length: int) -> CellReader:
    def read_text(_kind: str, text: str) -> str:
        if len(text) > length:
            raise ValueError(f"is longer than {length} characters")
        return text

    return read_text


def _read_reference(_kind: str, text: str) -> str:
    if not text:
        return ""
    if len(text := as_identifier(text)) > REFERENCE_LENGTH:
        raise ValueError(f"is longer than {REFERENCE_LENGTH} characters")
    return text


def _read_reason(kind: str, text: str) -> str:
    if kind == "ADJUSTMENT":
        if len(text) > REASON_LENGTH:
            raise ValueError(f"is longer than {REASON_LENGTH} characters")
        return as_name(text) if text.strip() else REASON
    if text:
        raise ValueError("only an ADJUSTMENT has a reason; put it into notes")
    return ""


def _metadata(extras: list[tuple[int, str]], record: list[str]) -> str:
    """The values of the extra columns as a JSON object, without the empty ones."""
    values = {name: record[index] for index, name in extras if record[index]}
    if not values:
        return _NO_METADATA
    if max(map(len, values.values())) > METADATA_VALUE_LENGTH:
        raise ValueError(f"is longer than {METADATA_VALUE_LENGTH} characters")
    return _json.encode(values).decode()
