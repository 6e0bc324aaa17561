"""The write-ahead log: received as it is written, kept segment by segment, laid out for a recovery."""

import contextlib
import gzip
import hashlib
import itertools
import re
import shutil
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import place
from .programs import Failed, Server, command, pieces, query, run
from .sealed import SUFFIX, Keys, reading, writing

SLOT = "erp_backup"
_CATCH_UP_SECONDS = 5.0
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_RECEIVED = re.compile(r"[0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history")
_STORED = re.compile(r"([0-9A-F]{24}|[0-9A-F]{8}\.history)(\.partial)?\.gz(\.age)?")
_SYSTEM = "select system_identifier from pg_control_system();"
_SEGMENT_BYTES = "select setting::bigint from pg_settings where name = 'wal_segment_size';"
_KNOWN = "select exists (select from pg_replication_slots where slot_name = 'erp_backup');"
_TIMELINE = "select left(pg_walfile_name(pg_current_wal_lsn()), 8);"
_REACH = """
select extract(epoch from clock_timestamp()) || ' ' || (pg_current_wal_flush_lsn() - '0/0') || ' '
  || (restart_lsn - '0/0') from pg_replication_slots where slot_name = 'erp_backup';
"""

Told = Callable[[bool, float | None], None]
"""Called after each round: whether all that came is kept, and up to when any moment can be had back: in seconds of the
epoch, by the server's clock; None if that is not known."""


class Archive(NamedTuple):
    """`spool` is where pg_receivewal writes, in the clear; `kept` where each segment goes, packed and encrypted."""

    kept: Path
    spool: Path
    keys: Keys
    segment_bytes: int


class Reach(NamedTuple):
    """At `at` the server had written its log up to `written`, and knew that we hold it up to `received`."""

    at: float
    written: float
    received: float


def archive_of(directory: Path, system_identifier: str) -> Path:
    """One for each cluster: another's segments may have the same names."""
    return directory / f"wal-{system_identifier}"


def receive(
    server: Server, directory: Path, keys: Keys, spool: Path | None, *, every: float, told: Told
) -> Iterator[dict[str, object]]:
    """Until SIGTERM or SIGINT: a line each time something was kept, or could not be.

    What has come is kept at least each `every` seconds, so that no more than that is lost with server and spool.
    The slot makes the server wait for us; how much it may hold back is its setting max_slot_wal_keep_size.
    Raises Failed, Busy."""
    if keys.recipients is not None and spool is None:
        raise Failed(
            "what arrives is in the clear: with --recipients, name a --spool outside --to, on a disk that stays"
        )
    system = query(server, _SYSTEM)
    kept = archive_of(directory, system)
    # of each cluster its own: what another one left there must not be taken for a part of this one's log
    own = spool / kept.name if spool is not None else kept / ".spool"
    archive = Archive(kept, own, keys, int(query(server, _SEGMENT_BYTES)))
    with place.locked(archive.kept), _stopping() as stop:
        archive.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield from _left_behind(server, archive)
        run(server, "pg_receivewal", "--slot", SLOT, "--create-slot", "--if-not-exists", "--no-password")
        arguments = ["-D", str(archive.spool), "--slot", SLOT, "--synchronous", "--no-password"]
        receiving = subprocess.Popen(command(server, "pg_receivewal", *arguments), env=server.environment())
        before: Reach | None = None
        try:
            while not stop.wait(every):
                # it connects again by itself for as long as we let it
                if receiving.poll() is not None:
                    raise Failed(f"pg_receivewal ended, status {receiving.returncode}; what it said stands above")
                reach = _reach(server)
                whole = yield from _kept(archive)
                # what had been written when we looked the last time has come since, and is kept now
                arrived = before is not None and reach is not None and reach.received >= before.written
                told(whole, before.at if whole and arrived and before is not None else None)
                before = reach
            _catch_up(server)
        finally:
            receiving.send_signal(signal.SIGINT)
            receiving.wait()
        yield from _kept(archive)


def _left_behind(server: Server, archive: Archive) -> Iterator[dict[str, object]]:
    """A server without our slot, and on a newer timeline than what came, was restored. It does not know the place where
    we were, and pg_receivewal would ask for it for ever. So what came is kept, and we begin where the server is."""
    old = {path.name[:8] for path in archive.spool.iterdir() if _SEGMENT.match(path.name)}
    if not old or query(server, _KNOWN) == "t" or max(old) >= query(server, _TIMELINE):
        return
    for name in keep_received(archive):
        yield {"ok": True, "segment": name}
    for path in archive.spool.iterdir():
        path.unlink()


def _catch_up(server: Server) -> None:
    """What was committed just before we were told to stop may still be on its way."""
    goal, deadline = _reach(server), time.monotonic() + _CATCH_UP_SECONDS
    while goal is not None and time.monotonic() < deadline:
        now = _reach(server)
        if now is None or now.received >= goal.written:
            return
        time.sleep(0.05)


def _reach(server: Server) -> Reach | None:
    """None while the server is away. Raises Failed if it has no slot of ours any more, as after a restore."""
    try:
        found = query(server, _REACH).split()
    except Failed:
        return None
    if not found:
        raise Failed(f"the server has no slot {SLOT} any more, or gave it up: start again, if in vain --forget")
    at, written, received = map(float, found)
    return Reach(at, written, received)


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    yield stop


def _kept(archive: Archive) -> Generator[dict[str, object], None, bool]:
    """Returns whether all that came is kept, without a hole."""
    whole = True
    try:
        for name in keep_received(archive):
            yield {"ok": True, "segment": name}
    except OSError as exc:
        # a full disk, a share that is away: what came stays in the spool, and is tried again
        whole = False
        yield {"ok": False, "error": f"the log cannot be kept: {exc}"}
    if hole := first_hole(archive.kept, archive.segment_bytes):
        yield {"ok": False, "error": f"the log has a hole at {hole}: take a base backup now, which ends it"}
        whole = False
    return whole


def keep_received(archive: Archive) -> Iterator[str]:
    """Whole segments and histories move to the archive, the one that grows is copied when it has changed."""
    for path in sorted(archive.spool.iterdir()):
        if not _RECEIVED.fullmatch(path.name):
            continue
        if path.suffix == ".partial":
            try:
                yield from _keep_partial(archive, path)
            except FileNotFoundError:
                # pg_receivewal renames a segment that has become whole: the next round stores it under its new name
                if path.exists():
                    raise
            continue
        target = archive.kept / f"{path.name}.gz"
        # the same cluster's segment of this name has the same bytes, so what is there is never written over
        if not target.exists() and not target.with_name(target.name + SUFFIX).exists():
            yield _store(archive, path)
        for grown in archive.kept.glob(f"{path.name}.partial.gz*"):
            grown.unlink()
        if path.suffix != ".history":
            path.unlink()


def _keep_partial(archive: Archive, path: Path) -> Iterator[str]:
    mark, now = archive.spool / ".kept", f"{path.name} {_digest(path)}"
    if not mark.exists() or mark.read_text() != now:
        yield _store(archive, path)
        mark.write_text(now)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _store(archive: Archive, path: Path) -> str:
    """Under a temporary name, synced, then renamed. Raises OSError."""
    hidden = archive.kept / ".part"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(mode=0o700)
    with (
        writing(hidden, f"{path.name}.gz", archive.keys) as out,
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=3, mtime=0) as packed,
        path.open("rb") as file,
    ):
        for piece in pieces(file):
            packed.write(piece)
    (made,) = hidden.iterdir()
    made.rename(archive.kept / made.name)
    place.sync(archive.kept)
    hidden.rmdir()
    return path.name


def first_hole(kept: Path, segment_bytes: int) -> str | None:
    """The first segment that is missing between two that are there; of each timeline, from its oldest on."""
    return hole_in({match[1] for path in kept.iterdir() if (match := _STORED.fullmatch(path.name))}, segment_bytes)


def hole_in(names: Iterable[str], segment_bytes: int) -> str | None:
    segments = sorted(name for name in names if _SEGMENT.fullmatch(name))
    for name, following in itertools.pairwise(segments):
        if name[:8] == following[:8] and following != (expected := after(name, segment_bytes)):
            return expected
    return None


def after(name: str, segment_bytes: int) -> str:
    """The segment that follows on the same timeline."""
    each = 0x1_0000_0000 // segment_bytes
    number = int(name[8:16], 16) * each + int(name[16:], 16) + 1
    return f"{name[:8]}{number // each:08X}{number % each:08X}"


def prune(directory: Path) -> list[str]:
    """Remove segments that no base backup needs. Of a cluster that none is left of, everything stays."""
    needed: dict[str, str] = {}
    for backup in place.backups(directory, "base"):
        manifest = backup.manifest()
        system, start = manifest["system_identifier"], manifest["wal_start"][8:]
        needed[system] = min(start, needed.get(system, start))
    gone = []
    for system, start in needed.items():
        archive = archive_of(directory, system)
        for path in archive.iterdir() if archive.is_dir() else ():
            match = _STORED.fullmatch(path.name)
            if match and _SEGMENT.fullmatch(match[1]) and match[1][8:] < start:
                path.unlink()
                gone.append(path.name)
    return gone


def lay_out(archive: Path, into: Path, start: str, keys: Keys) -> int:
    """Unpack what is needed from segment `start` on, under the names that the server asks for; returns how many.

    Raises Failed for what cannot be read."""
    into.mkdir(mode=0o700)
    many = 0
    for path in sorted(archive.iterdir()) if archive.is_dir() else ():
        match = _STORED.fullmatch(path.name)
        if match is None or (_SEGMENT.fullmatch(match[1]) and match[1][8:] < start[8:]):
            continue
        # one that still grew has its place only where it never became whole
        if match[2] and ((into / match[1]).exists() or _whole(archive, match[1])):
            continue
        with reading(path, keys) as file, (into / match[1]).open("xb") as out:
            try:
                shutil.copyfileobj(gzip.GzipFile(fileobj=file), out)
            except (OSError, EOFError, zlib.error) as exc:
                raise Failed(f"{path.name}: this segment of the log is damaged ({exc}): without it, a hole") from None
        many += 1
    return many


def _whole(archive: Path, name: str) -> bool:
    return (archive / f"{name}.gz").exists() or (archive / f"{name}.gz{SUFFIX}").exists()


def forget(server: Server) -> None:
    """Drop the slot, so that the server holds nothing back for us any more."""
    run(server, "pg_receivewal", "--slot", SLOT, "--drop-slot", "--no-password")
