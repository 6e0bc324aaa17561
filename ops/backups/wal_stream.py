"""pg_receivewal: at the right server, with our slot, and from a position that the server has."""

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .programs import Failure, Server, command, query, run
from .timelines import Lineage, number_of, timeline_of
from .wal_archive import Archive, archive_received, newest_received, segments

SLOT = "erp_backup"
_STOP_SECONDS = 5.0
_PROBE_SECONDS = 10.0
_POSITION = """
select concat_ws(' ', (select system_identifier from pg_control_system()), extract(epoch from clock_timestamp()),
  pg_current_wal_flush_lsn() - '0/0', left(pg_walfile_name(pg_current_wal_lsn()), 8),
  case when slot_name is null then 'missing' else coalesce(wal_status, 'new') end, restart_lsn - '0/0')
from (values ('erp_backup')) of_ours (name) left join pg_replication_slots on slot_name = of_ours.name;
"""


class Position(NamedTuple):
    """At time `at`, of its own clock, the server that leads had written its WAL up to `written`, and knew that we have
    it up to `received`; both in bytes. `slot` is `missing`, `new` or its wal_status."""

    system: str
    at: float
    written: int
    timeline: int
    slot: str
    received: int | None

    def has_received(self, earlier: "Position") -> bool:
        """Whether we have what was written then. Not known if another server led then: what it wrote may be lost."""
        return self.timeline == earlier.timeline and self.received is not None and self.received >= earlier.written


def position_of(server: Server) -> Position:
    """Raises Failure, also of a server that does not lead."""
    system, at, written, timeline, slot, *received = query(server, _POSITION).split()
    return Position(system, float(at), int(written), int(timeline, 16), slot, int(received[0]) if received else None)


class Receiver:
    """pg_receivewal without its own reconnecting, which would ask a new leader for ever for a position that it lacks,
    and would wait for an old one that is silent."""

    def __init__(self, server: Server, archive: Archive) -> None:
        self._server = server
        self._archive = archive
        self._process: subprocess.Popen[bytes] | None = None
        self._timeline = 0

    def follows(self, now: Position) -> bool:
        running = self._process is not None and self._process.poll() is None
        return running and now.timeline == self._timeline and now.slot not in ("missing", "lost")

    def follow(self, now: Position) -> Iterator[dict[str, object]]:
        """Starts at the server that leads now. Yields a report of each archived file. Raises Failure, OSError."""
        received = max((timeline_of(name) for name in self._names()), default=0)
        if now.timeline < received:
            raise Failure(
                f"the server is on timeline {now.timeline}, and WAL of timeline {received} was received: it does not"
                " lead any more, or it was restored without the archive's history files (then move both away)"
            )
        self.stop()
        if now.slot == "lost":
            # the WAL that it stood for is gone, and it cannot be used again
            run(self._server, "pg_receivewal", "--slot", SLOT, "--drop-slot", "--no-password")
        # a replica that was promoted by hand has none
        run(self._server, "pg_receivewal", "--slot", SLOT, "--create-slot", "--if-not-exists", "--no-password")
        yield from _find_start(self._server, self._archive, now)
        arguments = ["-D", str(self._archive.spool), "--slot", SLOT, "--synchronous", "--no-loop", "--no-password"]
        self._process = subprocess.Popen(
            command(self._server, "pg_receivewal", *arguments), env=self._server.environment()
        )
        self._timeline = now.timeline

    def stop(self) -> None:
        """What it has received is on the disk, so it may be killed if a silent server holds it."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self._process.kill()
        self._process.wait()
        self._process = None

    def _names(self) -> set[str]:
        spool = newest_received(self._archive.spool)
        return segments(self._archive.directory) | ({spool.name} if spool is not None else set())


def _find_start(server: Server, archive: Archive, now: Position) -> Iterator[dict[str, object]]:
    """pg_receivewal goes on at the end of the spool, also across a change of the timeline. The server may lack that
    position: its WAL was removed, or the spool holds more of the old timeline than the server had when it was promoted
    or restored. Then the spool is archived and emptied, and we begin where the server's timeline left the old one, or
    else at the slot's position."""
    for name in archive_received(archive):
        yield {"ok": True, "segment": name}
    end, each = newest_received(archive.spool), archive.segment_bytes
    if end is None or _sends(server, archive, end.name[:24]):
        return
    lineage = _lineage(server, archive, now)
    for path in archive.spool.iterdir():
        if path.is_file() and path.suffix != ".history":
            path.unlink()
    left_at = lineage.end_of(timeline_of(end.name))
    if left_at is not None and left_at // each < number_of(end.name, each):
        name = lineage.segment(left_at // each, each)
        if _sends(server, archive, name):
            (archive.spool / f"{name}.partial").touch()


def _lineage(server: Server, archive: Archive, now: Position) -> Lineage:
    """As the server's own history file says. Raises Failure if the server does not send its latest WAL either: then the
    position is not what is wrong."""
    latest = Lineage(now.timeline).segment(now.written // archive.segment_bytes, archive.segment_bytes)
    if not _sends(server, archive, latest):
        raise Failure("pg_receivewal failed; its message stands above")
    history = _probe(archive) / f"{now.timeline:08X}.history"
    return Lineage.parse(now.timeline, history.read_text()) if history.exists() else Lineage(now.timeline)


def _sends(server: Server, archive: Archive, segment: str) -> bool:
    """Whether the server sends its WAL from this segment on. If it is silent it may: there is just no more WAL yet."""
    probe = _probe(archive)
    shutil.rmtree(probe, ignore_errors=True)
    probe.mkdir(mode=0o700)
    # pg_receivewal goes on with the newest file, and ends when it has received anything beyond that LSN
    (probe / f"{segment}.partial").touch()
    begin = number_of(segment, archive.segment_bytes) * archive.segment_bytes
    arguments = ["-D", str(probe), "--endpos", f"{begin >> 32:X}/{begin & 0xFFFFFFFF:X}", "--no-loop", "--no-password"]
    try:
        done = subprocess.run(
            command(server, "pg_receivewal", *arguments),
            env=server.environment(),
            stderr=subprocess.PIPE,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    if done.returncode:
        # only then: it also says "error" when it ends early near the end of a timeline, as we want it to
        sys.stderr.write(done.stderr)
    return done.returncode == 0


def _probe(archive: Archive) -> Path:
    return archive.spool / ".probe"
