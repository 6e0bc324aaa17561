"""Receives WAL by pg_receivewal while the server writes it, and archives it every few seconds."""

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from . import catalogue
from .encryption import Keys
from .programs import Failure, Server, command, query, run, system_identifier, wal_segment_bytes
from .wal_archive import SEGMENT, Archive, archive_received, directory_of, first_gap

SLOT = "erp_backup"
_CATCH_UP_SECONDS = 5.0
_SLOT_EXISTS = "select exists (select from pg_replication_slots where slot_name = 'erp_backup');"
_TIMELINE = "select left(pg_walfile_name(pg_current_wal_lsn()), 8);"
_POSITIONS = """
select extract(epoch from clock_timestamp()) || ' ' || (pg_current_wal_flush_lsn() - '0/0') || ' '
  || (restart_lsn - '0/0') from pg_replication_slots where slot_name = 'erp_backup';
"""

OnRound = Callable[[bool, float | None], None]
"""Called after each round: whether all received WAL is archived, and the latest time to which a recovery can go: in
seconds of the epoch, by the server's clock; None if it is not known."""


class Positions(NamedTuple):
    """At time `at` the server had written its WAL up to `written`, and knew that we have it up to `received`."""

    at: float
    written: float
    received: float


def receive(
    server: Server, backups: Path, keys: Keys, spool: Path | None, *, every: float, on_round: OnRound
) -> Iterator[dict[str, object]]:
    """Runs until SIGTERM or SIGINT; yields a report for each file that was archived and for each failure.

    Archives at least each `every` seconds: so much is lost at most if server and spool are lost together. The slot
    makes the server retain WAL for us; its setting max_slot_wal_keep_size limits how much. Raises Failure, Busy."""
    if keys.recipients is not None and spool is None:
        raise Failure("WAL arrives unencrypted: with --recipients, name a --spool outside --to, on a disk that stays")
    directory = directory_of(backups, system_identifier(server))
    # one spool for each cluster, as in the archive: WAL of another cluster must not be archived as this one's
    own_spool = spool / directory.name if spool is not None else directory / ".spool"
    archive = Archive(directory, own_spool, keys, wal_segment_bytes(server))
    with catalogue.locked(archive.directory), _stop_signals() as stop:
        archive.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield from _leave_old_timeline(server, archive)
        run(server, "pg_receivewal", "--slot", SLOT, "--create-slot", "--if-not-exists", "--no-password")
        arguments = ["-D", str(archive.spool), "--slot", SLOT, "--synchronous", "--no-password"]
        receiver = subprocess.Popen(command(server, "pg_receivewal", *arguments), env=server.environment())
        before: Positions | None = None
        try:
            while not stop.wait(every):
                # it reconnects by itself, so its end is an error that stays
                if receiver.poll() is not None:
                    raise Failure(f"pg_receivewal ended, status {receiver.returncode}; its message stands above")
                now = _positions(server)
                complete = yield from _archive_round(archive)
                # all that was written at the time of the previous round has been received, and was archived just now
                arrived = before is not None and now is not None and now.received >= before.written
                on_round(complete, before.at if complete and arrived and before is not None else None)
                before = now
            _wait_until_received(server)
        finally:
            receiver.send_signal(signal.SIGINT)
            receiver.wait()
        yield from _archive_round(archive)


def _leave_old_timeline(server: Server, archive: Archive) -> Iterator[dict[str, object]]:
    """A server that was restored is on a newer timeline and lacks our slot. pg_receivewal would ask it for the position
    in the spool, which it does not have, for ever. So the spool is archived and emptied, and we start at the server's
    position."""
    old = {path.name[:8] for path in archive.spool.iterdir() if SEGMENT.match(path.name)}
    if not old or query(server, _SLOT_EXISTS) == "t" or max(old) >= query(server, _TIMELINE):
        return
    for name in archive_received(archive):
        yield {"ok": True, "segment": name}
    for path in archive.spool.iterdir():
        path.unlink()


def _wait_until_received(server: Server) -> None:
    """What was committed just before the signal may still be on its way."""
    goal, deadline = _positions(server), time.monotonic() + _CATCH_UP_SECONDS
    while goal is not None and time.monotonic() < deadline:
        now = _positions(server)
        if now is None or now.received >= goal.written:
            return
        time.sleep(0.05)


def _positions(server: Server) -> Positions | None:
    """None while the server is unavailable. Raises Failure if it has no slot of ours, as after a restore."""
    try:
        fields = query(server, _POSITIONS).split()
    except Failure:
        return None
    if not fields:
        raise Failure(f"the server has lost the slot {SLOT}: start again, and if that fails, use --forget")
    at, written, received = map(float, fields)
    return Positions(at, written, received)


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    yield stop


def _archive_round(archive: Archive) -> Generator[dict[str, object], None, bool]:
    """Returns whether all received WAL is archived without a gap."""
    complete = True
    try:
        for name in archive_received(archive):
            yield {"ok": True, "segment": name}
    except OSError as exc:
        # a full disk or an unavailable share: the files stay in the spool, for the next round
        complete = False
        yield {"ok": False, "error": f"WAL cannot be archived: {exc}"}
    if gap := first_gap(archive.directory, archive.segment_bytes):
        yield {"ok": False, "error": f"the WAL archive has a gap at {gap}: take a base backup now, which ends it"}
        complete = False
    return complete


def drop_slot(server: Server) -> None:
    """Afterwards the server retains no WAL for us."""
    run(server, "pg_receivewal", "--slot", SLOT, "--drop-slot", "--no-password")
