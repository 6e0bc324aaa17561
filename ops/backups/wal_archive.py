"""The WAL archive: one file for each segment, compressed and encrypted; found again, unpacked and pruned by name."""

import contextlib
import gzip
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from . import catalogue
from .base_backup import is_on
from .encryption import SUFFIX, Keys, digest_of, reading, stored_path, writing
from .programs import Failure, chunks
from .timelines import SEGMENT, Lineage, number_of, timeline_of

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
    """Moves complete segments to the archive, and copies history files and the segment that is being written, if it has
    changed. Yields their names. Raises OSError."""
    # listed once: a segment that pg_receivewal opens later is not taken for one that was left
    paths = sorted(archive.spool.iterdir())
    open_segment = _newest(paths)
    for path in paths:
        if not _RECEIVED.fullmatch(path.name):
            continue
        if path.suffix == ".partial":
            try:
                yield from _copy_partial(archive, path)
                # what was left at the end of a timeline is not written any more
                if path != open_segment:
                    path.unlink()
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
        # the history files stay: pg_receivewal need not fetch them again, and here they can be read without a key
        if path.suffix != ".history":
            path.unlink()


def newest_received(spool: Path) -> Path | None:
    """Where pg_receivewal goes on: by position first, then by timeline, as its FindStreamingStart does."""
    return _newest(spool.iterdir())


def _newest(spool: Iterable[Path]) -> Path | None:
    paths = [path for path in spool if SEGMENT.match(path.name) and _RECEIVED.fullmatch(path.name)]
    return max(paths, key=lambda path: (path.name[8:24], path.name[:8], path.suffix == ""), default=None)


def _copy_partial(archive: Archive, path: Path) -> Iterator[str]:
    # one that is empty only marks where to begin
    if path.stat().st_size == 0 or _is_complete(archive.directory, path.stem):
        return
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


def segments(directory: Path) -> set[str]:
    """The names of the archived segments, complete or not."""
    matches = (_ARCHIVED.fullmatch(path.name) for path in directory.iterdir()) if directory.is_dir() else ()
    return {match[1] for match in matches if match and SEGMENT.fullmatch(match[1])}


def first_fault(archive: Archive) -> str | None:
    """What stands between the newest base backup and the newest WAL: a segment that is missing, or a base backup whose
    own WAL was lost in a failover. A timeline whose history file is not in the spool is looked at by itself."""
    system = archive.directory.name.removeprefix("wal-")
    manifests = (backup.manifest() for backup in catalogue.backups(archive.directory.parent, "base"))
    bases = [manifest for manifest in manifests if manifest["system_identifier"] == system]
    start = bases[-1]["wal_start"] if bases else ""
    names = segments(archive.directory)
    if not names:
        return None
    newest = max(map(timeline_of, names))
    history = archive.spool / f"{newest:08X}.history"
    lineage = Lineage.parse(newest, history.read_text()) if history.exists() else Lineage(newest)
    if lineage.ancestors and bases and not is_on(lineage, bases[-1]):
        return f"the newest base backup holds WAL that timeline {newest} does not have"
    gap = lineage.first_gap({name for name in names if name[8:] >= start[8:]}, archive.segment_bytes)
    return None if gap is None else f"the WAL archive has a gap at {gap}"


def lineage_to(directory: Path, timeline: int, keys: Keys) -> Lineage:
    """As the archived history file says; without one it has no ancestors. Raises Failure if it cannot be read."""
    path = stored_path(directory, f"{timeline:08X}.history.gz")
    if not path.exists():
        return Lineage(timeline)
    with _unpacking(path, keys) as file:
        return Lineage.parse(timeline, file.read().decode())


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


def unpack(directory: Path, into: Path, start: str, lineage: Lineage, keys: Keys, segment_bytes: int) -> None:
    """Unpacks what recovery along the lineage needs from segment `start` on, under the names that the server asks for;
    no segment of an ancestor beyond the point where it was left, since recovery would replay it if the right one
    were missing. All history files, since the server takes the next number that has none for its own timeline.

    Raises Failure for a file that cannot be read."""
    into.mkdir(mode=0o700)
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        match = _ARCHIVED.fullmatch(path.name)
        if match is None or (SEGMENT.fullmatch(match[1]) and not _needed(match[1], start, lineage, segment_bytes)):
            continue
        # a partial segment counts only if the complete one is not there
        if match[2] and ((into / match[1]).exists() or _is_complete(directory, match[1])):
            continue
        with _unpacking(path, keys) as file, (into / match[1]).open("xb") as out:
            shutil.copyfileobj(file, out)


def _needed(name: str, start: str, lineage: Lineage, segment_bytes: int) -> bool:
    return name[8:] >= start[8:] and lineage.segment(number_of(name, segment_bytes), segment_bytes) == name


@contextlib.contextmanager
def _unpacking(path: Path, keys: Keys) -> Iterator[IO[bytes]]:
    """Raises Failure for a file that cannot be read."""
    with reading(path, keys) as file:
        try:
            # gzip's own type is no IO[bytes] for mypy
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file))
        except (OSError, EOFError, zlib.error) as exc:
            raise Failure(f"{path.name}: this WAL segment is damaged ({exc}); without it there is a gap") from None
