"""The CPU seconds and the peak memory of a process, from /proc, so on Linux only."""

import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class Taken(NamedTuple):
    """One run. `cpu` is of the process that wrote the file, `server_cpu` of Postgres; `memory` is the peak, in MiB, and
    `grown` how much of it was not there before."""

    seconds: float
    cpu: float
    server_cpu: float
    memory: float
    grown: float
    bytes: int


def cpu_of(pid: int, *, with_children: bool = False) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:15] if with_children else fields[11:13])) / _TICKS


def cpu_of_server(postmaster: int) -> float:
    """The CPU seconds of all its processes, including those that have ended."""
    return cpu_of(postmaster, with_children=True) + sum(
        cpu_of(int(child)) for child in _read(postmaster, f"task/{postmaster}/children").split() if _lives(int(child))
    )


def memory_of(pid: int, what: str = "VmHWM") -> float:
    """MiB: the peak since `reset_peak`; with `VmRSS` the present value."""
    lines = (line.split() for line in _read(pid, "status").splitlines())
    # a process that has just ended has no such line
    return next((int(words[1]) for words in lines if words[0] == f"{what}:"), 0) / 1024


def pss_of(pid: int) -> float:
    """MiB: what it has for itself, and its share of what it has in common with others."""
    lines = (line.split() for line in _read(pid, "smaps_rollup").splitlines())
    return next(int(words[1]) for words in lines if words[0] == "Pss:") / 1024


def reset_peak(pid: int) -> None:
    # proc_pid_clear_refs(5)
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _stat(pid: int) -> list[str]:
    try:
        return _read(pid, "stat").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 20


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
