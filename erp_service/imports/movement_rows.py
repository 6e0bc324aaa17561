"""Lines of a file of movements, held to the rules of a request's body; by hand, for there are very many of them.

The rules are those of stock_schemas; a test holds the two together."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from erp_service.decimals import Quantity, SignedQuantity, UnitCost
from erp_service.imports.csv_table import Faults, Layout, Table
from erp_service.inventory.schemas import IDENTIFIER_LENGTH

LAYOUT = Layout(
    required=("occurred_at", "type", "sku", "location", "quantity"),
    optional=("to_location", "unit_cost", "reference_no", "notes", "reason"),
    keeps_extras=True,
)
MovementType = Literal["IN", "OUT", "TRANSFER", "ADJUSTMENT"]
TYPES = get_args(MovementType)
REASON = "imported"
"""What an adjustment states whose line states none."""

LONGEST_REFERENCE, LONGEST_NOTES, LONGEST_REASON, LONGEST_KEY, LONGEST_EXTRA = 100, 2000, 500, 100, 500
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
AHEAD = timedelta(minutes=5)

# RFC 3339, with the blank that it allows for the T; fromisoformat alone takes week dates, commas and more
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_json = msgspec.json.Encoder()
_NO_EXTRA = "{}"

CellReader = Callable[[str, str], Any]
"""Makes a value of a movement's type and the text of one column; raises ValueError that says what is wrong."""


class MovementRow(NamedTuple):
    """One movement, valid by itself. `moment` is in UTC, `extra` a JSON object; texts are "" for none."""

    moment: datetime
    type: MovementType
    sku: str
    location: str
    quantity: Decimal
    to_location: str
    unit_cost: Decimal | None
    reference_no: str
    notes: str
    reason: str
    extra: str
    number: int


def rows(table: Table, faults: Faults, now: datetime) -> Iterator[MovementRow | None]:
    """Each record in file order; None for one that is wrong, when `faults` names all that is wrong with it."""
    readers: tuple[CellReader, ...] = (
        *(_moments(now), _type, _word, _word, _quantity, _to, _unit_cost),
        *(_text(LONGEST_REFERENCE), _text(LONGEST_NOTES), _reason),
    )
    for place, name in table.extras:
        if len(name) > LONGEST_KEY:
            faults.add(1, f"column {place + 1}", f"has a name of more than {LONGEST_KEY} characters")
    for number, known, record in table:
        kind = known[1]
        try:
            values = [read(kind, text) for read, text in zip(readers, known, strict=True)]
            if known[5] == known[3]:
                raise ValueError("goes to where it is")
            extra = _extra(table.extras, record) if table.extras else _NO_EXTRA
        except ValueError:
            _name_faults(number, known, readers, faults)
            for place, name in table.extras:
                if len(record[place]) > LONGEST_EXTRA:
                    faults.add(number, name, f"is longer than {LONGEST_EXTRA} characters")
            yield None
        else:
            yield MovementRow._make([*values, extra, number])


def _name_faults(number: int, known: tuple[str, ...], readers: tuple[CellReader, ...], faults: Faults) -> None:
    for column, read, text in zip(LAYOUT.known, readers, known, strict=True):
        try:
            read(known[1], text)
        except ValueError as why:
            faults.add(number, column, str(why))
    if known[1] == "TRANSFER" and known[5] == known[3]:
        faults.add(number, "to_location", "is the location itself")


def _moments(now: datetime) -> CellReader:
    latest = now + AHEAD

    # the lines of one invoice have one time, and stand together
    @lru_cache(maxsize=64)
    def moment(_kind: str, text: str) -> datetime:
        if _MOMENT.fullmatch(text) is None:
            raise ValueError("is not a time with its zone such as 2011-12-09T12:50:00Z (RFC 3339)")
        try:
            at = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValueError("is no time that there is") from None
        if at < EARLIEST:
            raise ValueError("is before 1900")
        if at > latest:
            raise ValueError("is in the future")
        return at

    return moment


def _type(kind: str, _text: str) -> str:
    if kind not in TYPES:
        raise ValueError(f"is none of {', '.join(TYPES)}" if kind else "is missing")
    return kind


def _word(_kind: str, text: str) -> str:
    if not text:
        raise ValueError("is missing")
    if len(text) > IDENTIFIER_LENGTH:
        raise ValueError(f"is longer than {IDENTIFIER_LENGTH} characters")
    return text


@lru_cache(maxsize=4096)
def _quantity(kind: str, text: str) -> Decimal:
    if not text:
        raise ValueError("is missing")
    read = SignedQuantity.read if kind == "ADJUSTMENT" else Quantity.read
    # a plain Decimal again: arithmetic on the subclass is slower
    if not (quantity := Decimal(read(text))):
        raise ValueError("must not be zero")
    return quantity


def _to(kind: str, text: str) -> str:
    if kind == "TRANSFER":
        return _word(kind, text)
    if text:
        raise ValueError("only a TRANSFER goes to another location")
    return ""


@lru_cache(maxsize=4096)
def _unit_cost(kind: str, text: str) -> Decimal | None:
    if not text:
        return None
    if kind != "IN":
        raise ValueError("only an IN has a cost; what else moves is valued at moving average")
    return Decimal(UnitCost.read(text))


def _text(longest: int) -> CellReader:
    def text(_kind: str, text: str) -> str:
        if len(text) > longest:
            raise ValueError(f"is longer than {longest} characters")
        return text

    return text


def _reason(kind: str, text: str) -> str:
    if kind == "ADJUSTMENT":
        if len(text) > LONGEST_REASON:
            raise ValueError(f"is longer than {LONGEST_REASON} characters")
        return text if text.strip() else REASON
    if text:
        raise ValueError("only an ADJUSTMENT has a reason; put it into notes")
    return ""


def _extra(extras: list[tuple[int, str]], record: list[str]) -> str:
    kept = {name: record[place] for place, name in extras if record[place]}
    if not kept:
        return _NO_EXTRA
    if max(map(len, kept.values())) > LONGEST_EXTRA:
        raise ValueError(f"is longer than {LONGEST_EXTRA} characters")
    return _json.encode(kept).decode()
