"""PostgreSQL servers for tests."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from erp_service.standalone import postgres
from erp_service.standalone.child_processes import postmaster, servers
from erp_service.standalone.postgres import Cluster

ENOUGH = 4 << 30  # bytes of memory that must be free for the databases of the tests


@contextlib.contextmanager
def temporary_cluster(name: str, *, max_connections: int = 200, parent: str | None = None) -> Iterator[Cluster]:
    """A server of its own, deleted in the end. Fsync is off, since no data outlives the tests."""
    with (
        tempfile.TemporaryDirectory(prefix=f"erp-{name}-", dir=parent) as directory,
        postgres.running(Path(directory), fsync=False, max_connections=max_connections) as cluster,
    ):
        yield cluster


def send(cluster: Cluster, number: signal.Signals) -> None:
    """Sends the signal to every process of the server, to the one that starts others first."""
    first = postmaster(cluster.directory)
    for pid in sorted(servers(cluster.directory), key=lambda pid: pid != first):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def frozen(cluster: Cluster) -> Iterator[None]:
    """Stops every process of the server, as a host or a disk that hangs does; no connection is closed."""
    send(cluster, signal.SIGSTOP)
    try:
        yield
    finally:
        send(cluster, signal.SIGCONT)


def in_memory() -> str | None:
    """A directory in memory if there is room: each database is hundreds of files, and disks would be most of the time.

    None is the system's default directory."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > ENOUGH else None
