"""Child processes that end with this process, and servers of an earlier process that did not."""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


def signalled_when_parent_dies(signal_number: int) -> Callable[[], None] | None:
    """A `preexec_fn` for Popen: the kernel sends the child this signal when this process dies, even by SIGKILL.

    None where the kernel cannot do that: outside Linux, and in any thread but the main one, because prctl(2) takes the
    end of the thread that forked for the death of the parent.
    """
    if not dies_with_us():
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    # It runs between fork and exec, where a lock that another thread held is never released: system calls only.
    def tie() -> None:
        prctl(1, signal_number)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return tie


def dies_with_us() -> bool:
    """Whether the kernel can end a child that is started here when this process dies."""
    return sys.platform == "linux" and threading.current_thread() is threading.main_thread()


def postmaster(cluster: Path) -> int | None:
    """The process number in a cluster's postmaster.pid, which may be stale."""
    try:
        return int((cluster / "postmaster.pid").read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return None


def servers(cluster: Path) -> list[int]:
    """The processes of any server whose PGDATA this is. Includes the postmaster's children: a busy one outlives it.

    A server is recognised by its working directory, which is its PGDATA whatever its arguments and process number are.
    So a stale postmaster.pid cannot mislead us, nor another process that got the number in it, nor a server in another
    container whose path has the same name. Without /proc (macOS) none is found: Postgres then refuses to start while an
    earlier server holds the shared memory, and that server ends within a minute, because its lock file is gone.
    """
    data_directory, processes = cluster.stat(), []
    for process in Path("/proc").glob("[0-9]*"):
        # A process may end meanwhile, and the working directory of another user's process cannot be read.
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text()
            if name in {"postgres\n", "initdb\n"} and os.path.samestat((process / "cwd").stat(), data_directory):
                processes.append(int(process.name))
    return processes


def stop_servers(cluster: Path) -> None:
    """Stop what still runs in a PGDATA whose lock this process holds: fast, then immediate, then by SIGKILL.

    Raises TimeoutError if a process survives SIGKILL, because its disk or network storage hangs.
    """
    for signal_number, seconds in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
        processes = servers(cluster)
        if not processes:
            return
        # SIGINT requests a fast shutdown of the postmaster only; in its children it cancels a query.
        receivers = [
            number for number in processes if signal_number is not signal.SIGINT or number == postmaster(cluster)
        ]
        for number in receivers:
            log.warning("process %s of an earlier embedded Postgres still runs: %s", number, signal_number.name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal_number)
        # Children without a postmaster mostly end by themselves.
        deadline = time.monotonic() + (seconds if receivers else 0.5)
        while servers(cluster) and time.monotonic() < deadline:
            time.sleep(0.02)
    if processes := servers(cluster):
        raise TimeoutError(
            f"an earlier server in {cluster} cannot be stopped, not even by SIGKILL: processes {processes}"
        )
