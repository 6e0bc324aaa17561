"""Where a run was made, and with what. Nothing here names a host or a directory."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from erp_service.standalone.postgres import Cluster
from tests.bench.load import NotMeasured, wrk
from tests.bench.records import Machine

_REPOSITORY = Path(__file__).parents[2]
_PACKAGES = ("litestar", "uvicorn", "uvloop", "asyncpg", "sqlalchemy", "msgspec", "psycopg", "procrastinate", "pyjwt")


def this_machine() -> Machine:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    total = re.search(r"^MemTotal:\s*([0-9]+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=model[1].strip() if model else platform.machine(),
        memory_gib=round(int(total[1]) / 2**20, 1) if total else 0.0,
        kernel=f"{platform.system()} {platform.release()}",
        load_before=round(os.getloadavg()[0], 2),
    )


def versions(cluster: Cluster) -> dict[str, str]:
    postgres = _first_word(r"([0-9.]+)", str(cluster.bin / "postgres"), "--version")
    known = {"Python": platform.python_version(), "PostgreSQL": postgres}
    try:
        known["wrk"] = _first_word(r"wrk (?:debian/)?(\S+)", wrk(), "-v")
    except NotMeasured:
        known["wrk"] = "not installed"
    return known | {package: importlib.metadata.version(package) for package in _PACKAGES}


def revision() -> str:
    """Of the tree, with a plus if it has changes that are not committed."""
    commit = _output("git", "-C", str(_REPOSITORY), "rev-parse", "--short", "HEAD").strip()
    changes = _output("git", "-C", str(_REPOSITORY), "status", "--porcelain", "--untracked-files=no").strip()
    return (commit or "unknown") + ("+" if changes else "")


def _first_word(pattern: str, *program: str) -> str:
    match = re.search(pattern, _output(*program))
    return match[1] if match else "unknown"


def _output(*program: str) -> str:
    # wrk -v ends with 1
    try:
        process = subprocess.run(program, capture_output=True, text=True, check=False)
    except OSError as problem:
        sys.stderr.write(f"{program[0]}: {problem}\n")
        return ""
    return process.stdout + process.stderr
