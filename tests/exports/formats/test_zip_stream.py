"""Zip archives that are written in one pass, read back with the standard library."""

import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from erp_service.exports.formats.zip_stream import Zip

MEMBERS = st.dictionaries(st.text("abc/é", min_size=1), st.lists(st.binary()))


TIMES = st.none() | st.integers(315532800, 4354819199).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(MEMBERS, st.integers(0, 9), TIMES)
def test_what_was_put_in_comes_out(members: dict[str, list[bytes]], level: int, at: datetime | None) -> None:
    archive = Zip(level, at)
    parts = []
    for name, pieces in members.items():
        parts += [archive.begin(name), *map(archive.add, pieces), archive.end()]
    with zipfile.ZipFile(io.BytesIO(b"".join([*parts, archive.directory()]))) as found:
        assert found.testzip() is None
        assert {name: found.read(name) for name in found.namelist()} == {
            name: b"".join(pieces) for name, pieces in members.items()
        }
        expected = at or datetime(1980, 1, 1, tzinfo=UTC)
        for info in found.infolist():
            assert info.date_time == (*expected.timetuple()[:5], expected.second // 2 * 2)


def test_archive_beyond_four_gibibytes_is_read_back(tmp_path: Path) -> None:
    """With a hole in the file in place of a large member, which costs neither time nor disk."""
    hole = 2**32 + 12345
    archive, path = Zip(1), tmp_path / "large.zip"
    with path.open("wb") as file:
        file.write(archive.whole("first", b"1"))
        file.seek(hole, 1)
        archive._written += hole
        file.write(archive.whole("last", b"2" * 1000))
        file.write(archive.directory())
    with zipfile.ZipFile(path) as found:
        assert found.read("first") == b"1"
        assert found.read("last") == b"2" * 1000
        assert found.getinfo("last").header_offset > 2**32


def test_member_beyond_four_gibibytes_says_its_size() -> None:
    archive = Zip(1)
    parts = [archive.begin("large"), archive.add(b"small")]
    archive._size += 2**33
    with zipfile.ZipFile(io.BytesIO(b"".join([*parts, archive.end(), archive.directory()]))) as found:
        assert found.getinfo("large").file_size == 2**33 + 5
