"""The commands ops/backup and ops/restore, as the tests run them."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from erp_service.standalone.postgres import Cluster

OPS = Path(__file__).parents[2] / "ops"
ACCOUNT = ["--run-as", "embedded_postgres"] if os.geteuid() == 0 else []


class Result(NamedTuple):
    """How a command ended: its exit status, its line of JSON, and its standard error, which is for people."""

    status: int
    result: dict[str, Any]
    log: str


class Keys(NamedTuple):
    recipients: Path
    identity: Path


def environment(cluster: Cluster, database: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ERP_", "PG"))}
    return {**own, "ERP_MIGRATION_DATABASE_URL": cluster.owner_url(database)}


def run(
    name: str,
    *arguments: object,
    env: dict[str, str],
    before: Callable[[], None] | None = None,
    stdin: str | None = None,
) -> Result:
    """Runs ops/NAME to its end; `stdin` is its standard input."""
    command = [sys.executable, str(OPS / name), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, preexec_fn=before, input=stdin)
    lines = done.stdout.splitlines()
    return Result(done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr)


def make_keys(path: Path) -> Keys:
    done = subprocess.run(["age-keygen", "-o", path], capture_output=True, text=True, check=True)
    public = path.with_suffix(".pub")
    public.write_text(done.stderr.rpartition(" ")[2])
    return Keys(public, path)


@contextlib.contextmanager
def archived_wal(cluster: Cluster, database: str, directory: Path, *more: object) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `ops/backup wal`: from its first report to its orderly end."""
    command = [sys.executable, str(OPS / "backup"), "wal", "--to", str(directory), "--every", "0.2"]
    command += ["--pg-bin", str(cluster.bin), *(str(word) for word in more)]
    with subprocess.Popen(command, env=environment(cluster, database), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            assert first["ok"], first
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0
