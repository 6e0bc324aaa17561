"""How CSV can be written, and which wishes do not go together."""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from erp_service.errors import Fault
from erp_service.formulas import FORMULA_STARTS


class CsvOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Without any, CSV is for machines (RFC 4180 with LF): exact, and empty for null but `""` for an empty text."""

    delimiter: Annotated[Literal[",", ";", "\t", "|"], Meta(description="what stands between two cells")] = ","
    decimal_comma: Annotated[
        bool, Meta(description="numbers with a comma, as spreadsheets of many countries read them")
    ] = False
    header: Annotated[bool, Meta(description="the names of the columns in the first line")] = True
    bom: Annotated[bool, Meta(description="begin with U+FEFF, by which Excel knows UTF-8")] = False
    null: Annotated[
        str,
        Meta(
            max_length=20,
            description="what stands for null, never in quotes; a text that looks like it is quoted",
            examples=["NULL"],
        ),
    ] = ""
    line_ending: Annotated[
        Literal["lf", "crlf"], Meta(description="what ends a row; line ends in texts stay as they are")
    ] = "lf"
    formula_guard: Annotated[
        bool,
        Meta(description="texts that a spreadsheet would take for formulas get an apostrophe in front"),
    ] = False


def csv_option_faults(options: CsvOptions) -> Iterator[Fault]:
    """What COPY could not write so that it is read back, by its field."""
    null = options.null
    if '"' in null or any(character < " " or character == "\x7f" for character in null):
        yield Fault("must hold no quote and no control character", pointer="/csv/null")
    elif options.delimiter in null:
        yield Fault("must not hold the delimiter", pointer="/csv/null")
    elif options.formula_guard and null.startswith(tuple(FORMULA_STARTS)):
        yield Fault("would be taken for a formula, which formula_guard is to prevent", pointer="/csv/null")
