"""The services of one process, found by their type."""

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")


class ServiceSet(msgspec.Struct, frozen=True):
    """The base of what a process is composed of. A feature that knows the type of what it needs, and not who composed
    it, finds it by that type; no two fields have the same."""

    def find(self, kind: type[T]) -> T:
        """Raises LookupError if this process has none."""
        service: T = getattr(self, _field_of(type(self), cast(Hashable, kind)))
        return service


@cache
def _field_of(services: type[ServiceSet], kind: Any) -> str:
    for field in msgspec.structs.fields(services):
        if isinstance(field.type, type) and issubclass(field.type, kind):
            return field.name
    raise LookupError(f"{services.__name__} has no {kind.__name__}")
