"""The services of one process, found by their type."""

from typing import TypeVar

import msgspec

T = TypeVar("T")


class ServiceSet(msgspec.Struct, frozen=True):
    """The base of what a process is composed of. A feature that knows the type of what it needs, and not who composed
    it, finds it by that type; no two fields have the same."""

    def find(self, kind: type[T]) -> T:
        """Raises LookupError if this process has none."""
        for name in self.__struct_fields__:
            if isinstance(service := getattr(self, name), kind):
                return service
        raise LookupError(f"{type(self).__name__} has no {kind.__name__}")
