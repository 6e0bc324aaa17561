"""What a file says, whatever its bytes: a digest of its rows, so that a file saved again is known again."""

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from functools import cache, lru_cache
from typing import TypeAlias

import msgspec

Claim: TypeAlias = Callable[[str], Awaitable[int]]
"""Called once with the digest of a file that has no fault of its own, before or after it is stored, and before the
commit; returns the id of the import. Raises ImportRefused if a file with that digest was imported."""

_MODULUS = 1 << 256


# typed: a number and a boolean may be equal, and differ as texts
@lru_cache(maxsize=4096, typed=True)
def _text(value: object) -> str:
    return str(value)


_ALWAYS = ("unit", "status", "allow_negative_stock")
"""Fields that were part of the digest with their defaults, too, when the first files were imported."""
_JSON = msgspec.json.Encoder(order="sorted")


@cache
def _defaults(kind: type[msgspec.Struct]) -> list[tuple[str, object]]:
    """The fields, each with the value that is no part of the digest."""
    return [(field.name, None if field.name in _ALWAYS else _default(field)) for field in msgspec.structs.fields(kind)]


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


class Fingerprint:
    """The sum of the SHA-256 of each row, modulo 2^256: neither order nor repetition of a row needs memory.

    Rows are given as parsed values, so that quotes, line ends, separators, encodings, the order of rows and columns,
    and `10` for `10.0` make no difference. The sum guards against mistakes, not against somebody who searches for
    another file with the same sum."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, values: Iterable[object]) -> None:
        # a text may hold the separator, but not by mistake so that two different rows become one
        row = "\x1f".join(map(_text, values)).encode("utf-8", "surrogatepass")
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(row).digest())) % _MODULUS

    def add_struct(self, body: msgspec.Struct, *more: object) -> None:
        """The fields that have a value other than their default, by name: a field that is added to the struct later
        changes no digest. The order of an object's members makes no difference."""
        members = [
            f"{name}={_JSON.encode(value).decode() if isinstance(value, (dict, list)) else value}"
            for (name, default), value in zip(_defaults(type(body)), msgspec.structs.astuple(body), strict=True)
            if value != default
        ]
        self.add((*members, *more))

    def hex(self) -> str:
        return f"{self._sum:064x}"
