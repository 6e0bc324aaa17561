"""Archives the WAL while the server writes it, every few seconds, from whichever server leads."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from . import catalogue
from .encryption import Keys
from .programs import Failure, Server, run, system_identifier, wal_segment_bytes
from .wal_archive import Archive, archive_received, directory_of, first_fault
from .wal_stream import SLOT, Position, Receiver, position_of

_CATCH_UP_SECONDS = 5.0

Report = dict[str, object]
OnRound = Callable[[bool, float | None], None]
"""Called after each round: whether all received WAL is archived, and the latest time to which a recovery can go: in
seconds of the epoch, by the server's clock; None if it is not known."""


def receive(
    server: Server, backups: Path, keys: Keys, spool: Path | None, *, every: float, on_round: OnRound
) -> Iterator[Report]:
    """Runs until SIGTERM or SIGINT; yields a report for each file that was archived and for each failure.

    Archives at least each `every` seconds: so much is lost at most if server and spool are lost together. The slot
    makes the server retain WAL for us; its setting max_slot_wal_keep_size limits how much. While no server leads, and
    after a failure of the new leader, it goes on trying. Raises Failure, Busy."""
    if keys.recipients is not None and spool is None:
        raise Failure("WAL arrives unencrypted: with --recipients, name a --spool outside --to, on a disk that stays")
    system = system_identifier(server)
    directory = directory_of(backups, system)
    # one spool for each cluster, as in the archive: WAL of another cluster must not be archived as this one's
    own_spool = spool / directory.name if spool is not None else directory / ".spool"
    archive = Archive(directory, own_spool, keys, wal_segment_bytes(server))
    with catalogue.locked(archive.directory), _stop_signals() as stop:
        archive.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        receiver = Receiver(server, archive)
        before: Position | None = None
        try:
            yield from receiver.follow(position_of(server))
            while not stop.wait(every):
                now = _position(server, system)
                follows = now is not None and (yield from _follow(receiver, now))
                complete = yield from _archive_round(archive)
                # all that was written at the time of the previous round has been received, and was archived just now
                arrived = before is not None and now is not None and now.has_received(before)
                healthy = complete and follows
                on_round(healthy, before.at if healthy and arrived and before is not None else None)
                before = now
            _wait_until_received(server)
        finally:
            receiver.stop()
        yield from _archive_round(archive)


def _follow(receiver: Receiver, now: Position) -> Generator[Report, None, bool]:
    """Returns whether the server that leads now is followed."""
    if receiver.follows(now):
        return True
    try:
        yield from receiver.follow(now)
    except (Failure, OSError) as exc:
        # the next round tries again: a leader that is just being replaced fails in many ways
        yield {"ok": False, "error": f"WAL cannot be received: {exc}"}
        return False
    yield {"ok": True, "timeline": now.timeline}
    return True


def _position(server: Server, system: str) -> Position | None:
    """None while no server leads. Raises Failure if it is another cluster, whose WAL has an archive of its own."""
    try:
        now = position_of(server)
    except Failure:
        return None
    if now.system != system:
        raise Failure("this is another cluster than the one that was followed: start again")
    return now


def _wait_until_received(server: Server) -> None:
    """What was committed just before the signal may still be on its way."""
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    with contextlib.suppress(Failure):
        goal = position_of(server)
        while time.monotonic() < deadline and not position_of(server).has_received(goal):
            time.sleep(0.05)


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    yield stop


def _archive_round(archive: Archive) -> Generator[Report, None, bool]:
    """Returns whether all received WAL is archived without a gap."""
    try:
        for name in archive_received(archive):
            yield {"ok": True, "segment": name}
        if fault := first_fault(archive):
            yield {"ok": False, "error": f"{fault}: take a base backup now, which ends it"}
            return False
    except (Failure, OSError) as exc:
        # a full disk or an unavailable share: the files stay in the spool, for the next round
        yield {"ok": False, "error": f"WAL cannot be archived: {exc}"}
        return False
    return True


def drop_slot(server: Server) -> None:
    """Afterwards the server retains no WAL for us."""
    run(server, "pg_receivewal", "--slot", SLOT, "--drop-slot", "--no-password")
