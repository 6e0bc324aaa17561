"""Processes that must not outlive us, and servers that outlived theirs."""

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


def signalled_when_parent_dies(signal_number: int) -> Callable[[], None] | None:
    """Popen's `preexec_fn` by which the kernel signals the child when this process dies, even if by SIGKILL.

    None where that cannot be had: outside Linux, and in any but the main thread, since prctl(2) takes the end of the
    thread that forked for the parent's death.
    """
    if not dies_with_us():
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    # Runs between fork and exec, where a lock that another thread held stays held for ever: system calls only.
    def tie() -> None:
        prctl(1, signal_number)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return tie


def dies_with_us() -> bool:
    """Can the kernel tie a child started here to us?"""
    return sys.platform == "linux" and threading.current_thread() is threading.main_thread()


def postmaster(cluster: Path) -> int | None:
    """The process number in a cluster's postmaster.pid, which may be stale."""
    try:
        return int((cluster / "postmaster.pid").read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return None


def servers(cluster: Path) -> list[int]:
    """The processes of any server whose PGDATA this is, the postmaster's children too: a busy one outlives it.

    A server stands in its PGDATA, whatever it was told and whatever its number: so neither a stale file, nor a
    stranger who got the number in it, nor another container's server at a path of the same name misleads us.
    """
    if sys.platform != "linux":
        return _server_by_number(cluster)
    here, found = cluster.stat(), []
    for process in Path("/proc").glob("[0-9]*"):
        # Processes end while we look, and those of other users do not tell where they stand.
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text()
            if name in {"postgres\n", "initdb\n"} and os.path.samestat((process / "cwd").stat(), here):
                found.append(int(process.name))
    return found


def _server_by_number(cluster: Path) -> list[int]:
    number = postmaster(cluster)
    if number is None:
        return []
    command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(number)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [number] if "postgres" in shown and str(cluster) in shown else []


def stop_servers(cluster: Path) -> None:
    """Stop what still runs in a PGDATA whose lock we hold: fast, then immediate, then by SIGKILL.

    Raises TimeoutError if a process survives even that (its disk or network storage hangs).
    """
    for signal_number, seconds in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
        running = servers(cluster)
        if not running:
            return
        # To stop fast is an order to the postmaster; to its children SIGINT says other things.
        told = [number for number in running if signal_number is not signal.SIGINT or number == postmaster(cluster)]
        for number in told:
            log.warning("process %s of an earlier embedded Postgres still runs: %s", number, signal_number.name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal_number)
        # Children without a postmaster mostly end by themselves.
        deadline = time.monotonic() + (seconds if told else 0.5)
        while servers(cluster) and time.monotonic() < deadline:
            time.sleep(0.02)
    if running := servers(cluster):
        raise TimeoutError(
            f"an earlier server in {cluster} cannot be stopped, not even by SIGKILL: processes {running}"
        )
