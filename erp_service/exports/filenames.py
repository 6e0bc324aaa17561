"""The name of an export's file: a template of the request, checked at submission, filled in when the file is written.

The name ends up in `Content-Disposition` and on disks that we know nothing about. So it must be a plain file name on
every system: no path, no invisible character, no name that Windows reserves, and always the extension of the content.
Every placeholder has a value of fixed length in ASCII letters, digits, `-` and `_`. Therefore a template that is valid
with sample values at submission is valid with any values.
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from erp_service.texts import nfc

DEFAULT = "{dataset}-{snapshot}.{ext}"
MOST_CHARACTERS = 200
MOST_BYTES = 200  # in UTF-8: file systems accept 255, and clients append a suffix during the download

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_REFUSED = frozenset('/\\:*?"<>|')
# these two join letters and emoji, and cannot make a name look like another one
_JOINERS = frozenset("\u200c\u200d")
_CONTROL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Microsoft, "Naming Files, Paths, and Namespaces": reserved with any extension, in upper and lower case
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])[ ]*(\.|$)", re.IGNORECASE)


class FilenameValues(Struct, frozen=True):
    """The values for a template. `at` is the time of the snapshot, whose date and time are those in `timezone`."""

    dataset: str
    format: str
    extension: str
    at: datetime
    export_id: UUID
    timezone: str = "UTC"


LOCAL = ("date", "time")
"""The placeholders whose values depend on the time zone; `snapshot` says itself that it is in UTC."""

_VALUES = {
    "dataset": "the dataset",
    "date": "2026-01-31",
    "time": "235959",
    "snapshot": "20260131T235959Z",
    "id": "the last eight digits of the job's id",
    "format": "csv, ...",
    "ext": "the extension",
}
PLACEHOLDERS = tuple(_VALUES)
MEANING = "; ".join(f"`{{{name}}}`: {meaning}" for name, meaning in _VALUES.items())


def fill_in(template: str | None, values: FilenameValues) -> str:
    """The file's name, in Unicode's composed form, with the right extension. `filename_faults` must find none."""
    at = values.at.astimezone(ZoneInfo(values.timezone))
    texts = {
        "dataset": values.dataset,
        "date": f"{at:%Y-%m-%d}",
        "time": f"{at:%H%M%S}",
        "snapshot": f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}",
        "id": values.export_id.hex[-8:],
        "format": values.format,
        "ext": values.extension,
    }
    name = _PLACEHOLDER.sub(lambda match: texts[match[1]], DEFAULT if template is None else template)
    return _with_extension(nfc(name), values.extension)


# what Unicode does not decompose: letters with a stroke, ligatures, and letters of their own
_LETTERS = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D"}
    | {"ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ł": "l", "Ł": "L", "ħ": "h", "Ħ": "H", "ŧ": "t", "Ŧ": "T"}
    | {"ı": "i", "ĸ": "k", "ŋ": "n", "Ŋ": "N", "–": "-", "—": "-", "‘": "'", "’": "'", "“": "'", "”": "'"}
)


def ascii_name(filename: str) -> str:
    """The name without accents, for clients that know no others; what has no letter like it in ASCII becomes `_`."""
    plain = unicodedata.normalize("NFKD", filename.translate(_LETTERS))
    letters = (character for character in plain if not unicodedata.combining(character))
    return "".join(letter if letter.isascii() else "_" for letter in letters)


def filename_faults(template: str, *, dataset: str, format_: str, extension: str) -> Iterator[str]:
    """Everything that keeps the template from giving good names, in words for its author."""
    unknown = dict.fromkeys(name for name in _PLACEHOLDER.findall(template) if name not in PLACEHOLDERS)
    yield from (f"has the unknown placeholder {{{name[:30]}}}; known: {', '.join(PLACEHOLDERS)}" for name in unknown)
    literal = _PLACEHOLDER.sub("", template)
    if "{" in literal or "}" in literal:
        yield "has a brace that is part of no placeholder"
    if refused := sorted(set(literal) & _REFUSED):
        yield f"must not contain {' '.join(refused)}"
    if any(unicodedata.category(character) in _CONTROL and character not in _JOINERS for character in literal):
        yield "must not contain invisible characters"
    if unknown:
        return
    sample = FilenameValues(dataset, format_, extension, datetime(2026, 1, 31, tzinfo=UTC), UUID(int=0))
    yield from _faults_of_name(fill_in(template, sample))


def _faults_of_name(name: str) -> Iterator[str]:
    if name.startswith((".", "-", "~")) or name[0].isspace():
        yield "must not begin with a period, a hyphen, a tilde or a space"
    if _DEVICES.match(name):
        yield "must not be the name of a device"
    if (length := len(name.encode(errors="replace"))) > MOST_BYTES:
        yield f"makes a name of {length} bytes, and {MOST_BYTES} is the most"


def _with_extension(name: str, extension: str) -> str:
    """`report.csv` as `csv.gz` is `report.csv.gz`, not `report.csv.csv.gz`; so is `report`, and `report.CSV`."""
    parts = extension.split(".")
    for count in range(len(parts), 0, -1):
        end = "." + ".".join(parts[:count])
        if name[-len(end) :].lower() == end:
            name = name[: -len(end)]
            break
    return f"{name}.{extension}"
