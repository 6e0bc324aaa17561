"""What an export's file is called: a template of the request, checked at submission, filled in when the file is there.

The name ends up in `Content-Disposition` and on disks that we know nothing of. So it is one plain name on all of them:
no path, nothing invisible, nothing that Windows keeps for itself, and always with the extension of what is inside.
Every placeholder has a value of fixed length in ASCII letters, digits, `-` and `_`, so what holds for a template filled
in at submission holds for it at any time.
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

from msgspec import Struct

DEFAULT = "{dataset}-{snapshot}.{ext}"
MOST_CHARACTERS = 200
MOST_BYTES = 200  # in UTF-8: file systems take 255, and a client puts something of its own behind while it downloads

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_REFUSED = frozenset('/\\:*?"<>|')
# the two join letters and emoji, and cannot make a name look like another
_JOINERS = frozenset("\u200c\u200d")
_CONTROL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# "Naming Files, Paths, and Namespaces" of Microsoft; whatever the extension, and whatever the capitals
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])[ ]*(\.|$)", re.IGNORECASE)


class Named(Struct, frozen=True):
    """What a template is filled in with. `at` is the instant of the snapshot; its date and time are given in UTC."""

    dataset: str
    format: str
    extension: str
    at: datetime
    export_id: UUID


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


def filled_in(template: str | None, named: Named) -> str:
    """The file's name, in Unicode's composed form, with the right extension. The template has been checked."""
    at = named.at.astimezone(UTC)
    values = {
        "dataset": named.dataset,
        "date": f"{at:%Y-%m-%d}",
        "time": f"{at:%H%M%S}",
        "snapshot": f"{at:%Y%m%dT%H%M%SZ}",
        "id": named.export_id.hex[-8:],
        "format": named.format,
        "ext": named.extension,
    }
    name = _PLACEHOLDER.sub(lambda found: values[found[1]], DEFAULT if template is None else template)
    return _with_extension(unicodedata.normalize("NFC", name), named.extension)


def filename_faults(template: str, *, dataset: str, format_: str, extension: str) -> Iterator[str]:
    """Everything that keeps the template from making good names, each in words for whoever wrote it."""
    unknown = dict.fromkeys(name for name in _PLACEHOLDER.findall(template) if name not in PLACEHOLDERS)
    yield from (f"has the unknown placeholder {{{name[:30]}}}; known: {', '.join(PLACEHOLDERS)}" for name in unknown)
    literal = _PLACEHOLDER.sub("", template)
    if "{" in literal or "}" in literal:
        yield "has a brace that is part of no placeholder"
    if refused := sorted(set(literal) & _REFUSED):
        yield f"must not contain {' '.join(refused)}"
    if any(unicodedata.category(character) in _CONTROL and character not in _JOINERS for character in literal):
        yield "must not contain characters that cannot be seen"
    if unknown:
        return
    sample = Named(dataset, format_, extension, datetime(2026, 1, 31, tzinfo=UTC), UUID(int=0))
    yield from _faults_of_name(filled_in(template, sample))


def _faults_of_name(name: str) -> Iterator[str]:
    if name.startswith((".", "-", "~")) or name[0].isspace():
        yield "must not begin with a point, a hyphen, a tilde or a blank"
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
