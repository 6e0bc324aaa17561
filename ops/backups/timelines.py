"""Timelines: a failover, and each recovery, begins a new one, whose history file says where it left its ancestors.

A WAL segment in which a timeline begins exists twice: the new timeline's file holds the old WAL up to that point and
its own after it; the old timeline's file may go on with WAL that only the lost server had."""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

SEGMENT = re.compile(r"[0-9A-F]{24}")
_HISTORY_LINE = re.compile(r"\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)")


class Lineage(NamedTuple):
    """A timeline and its ancestors, the oldest first, each with the LSN, in bytes, at which the next one begins."""

    timeline: int
    ancestors: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, timeline: int, history: str) -> "Lineage":
        """Reads the history file of a timeline (https://www.postgresql.org/docs/18/continuous-archiving.html)."""
        matches = (_HISTORY_LINE.match(line) for line in history.splitlines())
        return cls(timeline, tuple((int(m[1]), lsn_of(m[2])) for m in matches if m))

    def end_of(self, timeline: int) -> int | None:
        """Where an ancestor was left; None for others, and for this timeline itself."""
        return dict(self.ancestors).get(timeline)

    def holds(self, timeline: int, lsn: int) -> bool:
        """Whether this server's history has the position `lsn` of that timeline."""
        end = self.end_of(timeline)
        return timeline == self.timeline or (end is not None and lsn <= end)

    def segment(self, number: int, segment_bytes: int) -> str:
        """The file that recovery along this lineage must read for a segment."""
        for ancestor, end in self.ancestors:
            if number < end // segment_bytes:
                return segment_name(ancestor, number, segment_bytes)
        return segment_name(self.timeline, number, segment_bytes)

    def own(self, names: Iterable[str], segment_bytes: int) -> list[int]:
        """The numbers of those of the segments that belong to it, in order."""
        numbers = ((number_of(name, segment_bytes), name) for name in names)
        return sorted(number for number, name in numbers if self.segment(number, segment_bytes) == name)

    def first_gap(self, names: Collection[str], segment_bytes: int) -> str | None:
        """The first segment that is missing before the last one of its own: from the first one on, also if that is the
        old version of a segment in which the next timeline begins."""
        numbers = self.own(names, segment_bytes)
        old = [
            number_of(name, segment_bytes)
            for name in names
            if self.holds(timeline_of(name), number_of(name, segment_bytes) * segment_bytes)
        ]
        for number in range(min(old), numbers[-1]) if numbers else ():
            if (name := self.segment(number, segment_bytes)) not in names:
                return name
        return None


def lsn_of(text: str) -> int:
    """In bytes, of an LSN such as `0/2000028`."""
    high, low = (int(half, 16) for half in text.split("/"))
    return high << 32 | low


def segment_name(timeline: int, number: int, segment_bytes: int) -> str:
    """The name of the segment of this number: that of LSN n is n // segment_bytes."""
    each = 0x1_0000_0000 // segment_bytes
    return f"{timeline:08X}{number // each:08X}{number % each:08X}"


def number_of(name: str, segment_bytes: int) -> int:
    return int(name[8:16], 16) * (0x1_0000_0000 // segment_bytes) + int(name[16:24], 16)


def timeline_of(name: str) -> int:
    """Of a segment or a history file."""
    return int(name[:8], 16)
