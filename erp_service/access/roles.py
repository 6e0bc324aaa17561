"""The four roles in ascending order: each may do everything that the ones before it may."""

from enum import StrEnum


class Role(StrEnum):
    VIEWER = "VIEWER"
    STAFF = "STAFF"
    ADMIN = "ADMIN"
    SUPER_ADMIN = "SUPER_ADMIN"

    @property
    def rank(self) -> int:
        return _RANKS[self]

    def includes(self, least: "Role") -> bool:
        return self.rank >= least.rank

    def at_most(self, other: "Role | None") -> "Role":
        """The lesser of the two; None sets no limit."""
        return self if other is None or other.includes(self) else other


_RANKS = {role: rank for rank, role in enumerate(Role)}
