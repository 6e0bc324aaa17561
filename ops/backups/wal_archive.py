"""The WAL archive: one file for each segment, compressed and encrypted; found again, unpacked and pruned by name."""

import gzip
import itertools
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import catalogue
from .encryption import SUFFIX, Keys, digest_of, reading, writing
from .programs import Failure, chunks

SEGMENT = re.compile(r"[0-9A-F]{24}")
_RECEIVED = re.compile(r"[0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history")
_ARCHIVED = re.compile(r"([0-9A-F]{24}|[0-9A-F]{8}\.history)(\.partial)?\.gz(\.age)?")


class Archive(NamedTuple):
    """`spool` is where pg_receivewal writes, unencrypted; `directory` holds the archived files."""

    directory: Path
    spool: Path
    keys: Keys
    segment_bytes: int


def directory_of(backups: Path, system_identifier: str) -> Path:
    """Each cluster has its own: segments of two clusters may have the same names."""
    return backups / f"wal-{system_identifier}"


def archive_received(archive: Archive) -> Iterator[str]:
    """Moves complete segments and history files to the archive, and copies the segment that is being written, if it has
    changed. Yields their names. Raises OSError."""
    for path in sorted(archive.spool.iterdir()):
        if not _RECEIVED.fullmatch(path.name):
            continue
        if path.suffix == ".partial":
            try:
                yield from _copy_partial(archive, path)
            except FileNotFoundError:
                # pg_receivewal renames a segment that has become complete: the next round stores it under its new name
                if path.exists():
                    raise
            continue
        # a segment of this name and cluster always has the same bytes, so an archived one is never overwritten
        if not _is_complete(archive.directory, path.name):
            yield _store(archive, path)
        for partial in archive.directory.glob(f"{path.name}.partial.gz*"):
            partial.unlink()
        if path.suffix != ".history":
            path.unlink()


def _copy_partial(archive: Archive, path: Path) -> Iterator[str]:
    mark, state = archive.spool / ".kept", f"{path.name} {digest_of(path)}"
    if not mark.exists() or mark.read_text() != state:
        yield _store(archive, path)
        mark.write_text(state)


def _store(archive: Archive, path: Path) -> str:
    """Writes into a temporary directory, fsyncs, renames. Raises OSError."""
    hidden = archive.directory / ".part"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(mode=0o700)
    with (
        writing(hidden, f"{path.name}.gz", archive.keys) as out,
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=3, mtime=0) as compressed,
        path.open("rb") as file,
    ):
        for chunk in chunks(file):
            compressed.write(chunk)
    (written,) = hidden.iterdir()
    written.rename(archive.directory / written.name)
    catalogue.sync(archive.directory)
    hidden.rmdir()
    return path.name


def _is_complete(directory: Path, name: str) -> bool:
    return (directory / f"{name}.gz").exists() or (directory / f"{name}.gz{SUFFIX}").exists()


def first_gap(directory: Path, segment_bytes: int) -> str | None:
    """The first segment that is missing in the archive."""
    matches = (_ARCHIVED.fullmatch(path.name) for path in directory.iterdir())
    return gap_in({match[1] for match in matches if match}, segment_bytes)


def gap_in(names: Iterable[str], segment_bytes: int) -> str | None:
    """The first segment that is missing between two of the same timeline."""
    segments = sorted(name for name in names if SEGMENT.fullmatch(name))
    for name, following in itertools.pairwise(segments):
        if name[:8] == following[:8] and following != (expected := next_segment(name, segment_bytes)):
            return expected
    return None


def next_segment(name: str, segment_bytes: int) -> str:
    """The following segment of the same timeline."""
    each = 0x1_0000_0000 // segment_bytes
    number = int(name[8:16], 16) * each + int(name[16:], 16) + 1
    return f"{name[:8]}{number // each:08X}{number % each:08X}"


def prune(backups: Path) -> list[str]:
    """Removes the segments that no base backup needs. The WAL of a cluster without a base backup stays."""
    oldest: dict[str, str] = {}
    for backup in catalogue.backups(backups, "base"):
        manifest = backup.manifest()
        system, start = manifest["system_identifier"], manifest["wal_start"][8:]
        oldest[system] = min(start, oldest.get(system, start))
    removed = []
    for system, start in oldest.items():
        directory = directory_of(backups, system)
        for path in directory.iterdir() if directory.is_dir() else ():
            match = _ARCHIVED.fullmatch(path.name)
            if match and SEGMENT.fullmatch(match[1]) and match[1][8:] < start:
                path.unlink()
                removed.append(path.name)
    return removed


def unpack(directory: Path, into: Path, start: str, keys: Keys) -> None:
    """Unpacks what recovery needs from segment `start` on, under the names that the server asks for.

    Raises Failure for a file that cannot be read."""
    into.mkdir(mode=0o700)
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        match = _ARCHIVED.fullmatch(path.name)
        if match is None or (SEGMENT.fullmatch(match[1]) and match[1][8:] < start[8:]):
            continue
        # a partial segment counts only if the complete one is not there
        if match[2] and ((into / match[1]).exists() or _is_complete(directory, match[1])):
            continue
        with reading(path, keys) as file, (into / match[1]).open("xb") as out:
            try:
                shutil.copyfileobj(gzip.GzipFile(fileobj=file), out)
            except (OSError, EOFError, zlib.error) as exc:
                raise Failure(f"{path.name}: this WAL segment is damaged ({exc}); without it there is a gap") from None
