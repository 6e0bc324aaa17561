"""Pure functions for downloads: the requested bytes, and the headers of the answer (RFC 9110, 9530, 6266, 8187)."""

import base64
import re
from typing import NamedTuple
from urllib.parse import quote

from erp_service import errors
from erp_service.exports.filenames import ascii_name

# one range; several, or a malformed header, are ignored, as RFC 9110 (14.2) allows
_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))[ \t]*", re.ASCII | re.IGNORECASE)
# RFC 8187, attr-char; urllib never quotes letters, digits and `_.-~`
_ATTR_CHAR = "!#$&+^`|"
CACHE_CONTROL = "private, no-transform"
"""Of a file: a proxy that compressed it would break its digest and its ranges (RFC 9111, 5.2.2.6)."""

_TOKEN_SAFE = re.compile(r"[^A-Za-z0-9._+-]", re.ASCII)


class Part(NamedTuple):
    """The bytes from `start` up to but not including `stop`, of `size`."""

    start: int
    stop: int
    size: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def requested_part(range_: str | None, if_range: str | None, etag: str, size: int) -> Part | None:
    """The part that `Range` names, if `If-Range` allows it; None means the whole file.

    Raises errors.RangeNotSatisfiable, whose `Content-Range` gives the size of the file."""
    if range_ is None or (match := _RANGE.fullmatch(range_)) is None:
        return None
    # a date is not a strong validator here, so it never matches; neither does a weak tag
    if if_range is not None and if_range.strip() != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, stop = max(size - int(suffix), 0), size
    else:
        start, stop = int(first), size if last is None else min(int(last) + 1, size)
        if last is not None and int(last) < start:
            return None
    if start >= stop:
        raise errors.RangeNotSatisfiable(
            f"The file has {size} bytes.", headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
        )
    return Part(start, stop, size)


def require_file(if_match: str | None, etag: str) -> None:
    """Raises errors.Stale unless `If-Match` is absent, `*`, or names the file. A weak tag never does (RFC 9110,
    13.1.1)."""
    if if_match is not None and if_match.strip() != "*" and etag not in map(str.strip, if_match.split(",")):
        raise errors.Stale("The file is not the one that If-Match names.", headers={"ETag": etag})


def strong_etag(sha256: str) -> str:
    return f'"{sha256}"'


def repr_digest(sha256: str) -> str:
    """RFC 9530: the digest of the whole file, also on an answer that contains a part of it."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def disposition(filename: str) -> str:
    """`Content-Disposition` with an ASCII name for old clients, and the exact name for the others."""
    plain = _TOKEN_SAFE.sub("_", ascii_name(filename))
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe=_ATTR_CHAR)}"


def headers(*, media_type: str, sha256: str, filename: str, size: int, part: Part | None) -> dict[str, str]:
    """No `Content-Encoding`: the stored bytes are the representation, so ranges and digest refer to the same bytes."""
    values = {
        # explicit, because the framework would add a second charset, and for HEAD none of it
        "Content-Type": media_type,
        "ETag": strong_etag(sha256),
        "Repr-Digest": repr_digest(sha256),
        "Content-Disposition": disposition(filename),
        "Content-Length": str(size if part is None else part.length),
        "Accept-Ranges": "bytes",
        "Cache-Control": CACHE_CONTROL,
    }
    return values if part is None else values | {"Content-Range": part.content_range}


def accel_path(prefix: str | None, offload: str | None, *, forwarded: bool, key: str, part: Part | None) -> str | None:
    """The internal path at which nginx in front finds the file (X-Accel-Redirect), or None if this instance must send
    the file.

    Only for a trusted proxy that announces support with the header `X-Accel-Offload`: another would pass on an empty
    file. Of the two paths, only `part` lets nginx apply `Range`, because nginx cannot evaluate our `If-Range`."""
    if prefix is None or offload != prefix or not forwarded:
        return None
    return f"{prefix}/{'whole' if part is None else 'part'}/{key}"
