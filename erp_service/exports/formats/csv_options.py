"""The options for CSV, and which of them cannot be combined."""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from erp_service.errors import Fault
from erp_service.formulas import guarded


class CsvOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Without options, CSV is for machines (RFC 4180 with LF): exact, empty for null, and `""` for an empty text."""

    # the tab itself is accepted too; the document leaves it out, since generated code breaks on it
    delimiter: Annotated[
        Literal[",", ";", "|", "tab", "\t"], Meta(description="the character between two cells; `tab` is a tab")
    ] = ","
    decimal_comma: Annotated[
        bool, Meta(description="numbers with a decimal comma, as spreadsheets of many countries read them")
    ] = False
    header: Annotated[bool, Meta(description="the names of the columns as the first line")] = True
    bom: Annotated[bool, Meta(description="begin with U+FEFF, by which Excel recognises UTF-8")] = False
    null: Annotated[
        str,
        Meta(
            max_length=20,
            description="the text for null, never in quotes; other values with the same text are quoted",
            examples=["NULL"],
        ),
    ] = ""
    line_ending: Annotated[
        Literal["lf", "crlf"], Meta(description="the end of a row; line ends in texts are not changed")
    ] = "lf"
    formula_guard: Annotated[
        bool,
        Meta(
            description="put an apostrophe before all that a spreadsheet would take for a formula: at the beginning of"
            " a text, and after each comma, semicolon, tab, bar and line end in it. Numbers stay numbers, and JSON"
            " keeps its value, as the characters become escapes"
        ),
    ] = False

    @property
    def separator(self) -> str:
        """The character itself."""
        return "\t" if self.delimiter == "tab" else self.delimiter


def csv_option_faults(options: CsvOptions) -> Iterator[Fault]:
    """Each option that would make COPY write a file that cannot be read back unambiguously."""
    null = options.null
    if '"' in null or any(character < " " or character == "\x7f" for character in null):
        yield Fault("must hold no quote and no control character", pointer="/csv/null")
    elif options.separator in null:
        yield Fault("must not hold the delimiter", pointer="/csv/null")
    elif options.formula_guard and guarded(null) != null:
        yield Fault("would be taken for a formula, which formula_guard is to prevent", pointer="/csv/null")
