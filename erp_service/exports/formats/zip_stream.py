"""A zip archive written in one pass, without rewriting anything; the same content gives the same bytes.

The standard library's `zipfile` must know beforehand whether a member needs ZIP64, with which Excel has problems in a
workbook that does not need it. Here the sizes follow the content, as other streaming writers of workbooks do it, and
ZIP64 is used only in the directory at the end, where a number needs it (PKWARE APPNOTE 6.3.10, 4.3.9, 4.4.4 bit 3,
4.5.3)."""

import struct
import zlib
from datetime import UTC, datetime
from typing import NamedTuple

_SIZES_FOLLOW, _NAME_IN_UTF8 = 1 << 3, 1 << 11
_EARLIEST = 0x0021  # 1 January 1980, midnight: the current time would give other bytes each time
_PLAIN, _ZIP64 = 20, 45  # versions of the format
_LARGEST = 0xFFFFFFFF


class _Member(NamedTuple):
    name: bytes
    offset: int
    crc: int
    compressed: int
    size: int


class Zip:
    """Every method returns the next bytes of the archive. Not for two threads at the same time."""

    def __init__(self, level: int, at: datetime | None = None) -> None:
        """`level` is that of deflate. `at` is the time of the members, written in UTC, since ZIP has no time zones."""
        self._level = level
        self._date, self._time = _EARLIEST, 0
        if at is not None:
            at = at.astimezone(UTC)
            self._date = at.year - 1980 << 9 | at.month << 5 | at.day
            self._time = at.hour << 11 | at.minute << 5 | at.second // 2
        self._members: list[_Member] = []
        self._written = 0

    def whole(self, name: str, content: bytes) -> bytes:
        """A small member in one call."""
        return self.begin(name) + self.add(content) + self.end()

    def begin(self, name: str, level: int | None = None) -> bytes:
        """`level` replaces the archive's for this member, such as 0 for content that is compressed already."""
        self._name, self._offset = name.encode(), self._written
        self._crc = self._compressed = self._size = 0
        self._deflate = zlib.compressobj(self._level if level is None else level, zlib.DEFLATED, -zlib.MAX_WBITS)
        fields = (_PLAIN, _flags(self._name), zlib.DEFLATED, self._time, self._date, 0, 0, 0, len(self._name), 0)
        return self._counted(struct.pack("<IHHHHHIIIHH", 0x04034B50, *fields) + self._name)

    def add(self, content: bytes) -> bytes:
        self._crc = zlib.crc32(content, self._crc)
        self._size += len(content)
        return self._deflated(self._deflate.compress(content))

    def end(self) -> bytes:
        last = self._deflated(self._deflate.flush())
        member = _Member(self._name, self._offset, self._crc, self._compressed, self._size)
        self._members.append(member)
        sizes = "<IIQQ" if max(member.compressed, member.size) > _LARGEST else "<IIII"
        return last + self._counted(struct.pack(sizes, 0x08074B50, member.crc, member.compressed, member.size))

    def directory(self) -> bytes:
        """The central directory, which ends the archive."""
        start = self._written
        entries = b"".join(_entry(member, self._time, self._date) for member in self._members)
        return entries + _end(len(self._members), len(entries), start)

    def _deflated(self, data: bytes) -> bytes:
        self._compressed += len(data)
        return self._counted(data)

    def _counted(self, data: bytes) -> bytes:
        self._written += len(data)
        return data


def _flags(name: bytes) -> int:
    return _SIZES_FOLLOW if name.isascii() else _SIZES_FOLLOW | _NAME_IN_UTF8


def _entry(member: _Member, time: int, date: int) -> bytes:
    numbers = (member.size, member.compressed, member.offset)
    large = [number for number in numbers if number > _LARGEST]
    extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    size, compressed, offset = (min(number, _LARGEST) for number in numbers)
    version = _ZIP64 if large else _PLAIN
    fields = (version, version, _flags(member.name), zlib.DEFLATED, time, date, member.crc, compressed, size)
    lengths = (len(member.name), len(extra), 0, 0, 0, 0, offset)
    return struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, *fields, *lengths) + member.name + extra


def _end(members: int, size: int, start: int) -> bytes:
    large = b""
    if start + size > _LARGEST:
        fields = (44, _ZIP64, _ZIP64, 0, 0, members, members, size, start)
        large = struct.pack("<IQHHIIQQQQ", 0x06064B50, *fields)
        large += struct.pack("<IIQI", 0x07064B50, 0, start + size, 1)
    return large + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, members, members, size, min(start, _LARGEST), 0)
