"""The chain: each link is a hash of the link before it and of what its position covers.

    link = SHA-256(link before || header || digest)

The link before the first is 32 zero bytes. The header is a text in UTF-8, whose six lines each end with a line feed:
form, position, sealed_at in microseconds since 1970, source, what is covered (the id of the audit entry, or the ids of
rows as PostgreSQL writes an int8multirange, `{[1,5),[7,8)}`), through. The digest is that of the audit entry, or the
SHA-256 of the digests of the rows one after another in order of their ids (forms.py)."""

import hashlib
from datetime import UTC, datetime, timedelta

from msgspec import Struct

START = bytes(32)
"""The link before the first one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Seal(Struct, frozen=True):
    """One position without its link. `covers` is the id of an audit entry, or ids of rows as PostgreSQL writes them."""

    form: int
    position: int
    sealed_at: datetime
    source: str
    covers: str
    through: int

    @property
    def header(self) -> bytes:
        time = (self.sealed_at - _EPOCH) // _MICROSECOND
        return f"{self.form}\n{self.position}\n{time}\n{self.source}\n{self.covers}\n{self.through}\n".encode()

    def link(self, before: bytes, digest: bytes) -> bytes:
        return hashlib.sha256(before + self.header + digest).digest()
