"""ops/backup and ops/restore, as an operator runs them."""

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


class Ran(NamedTuple):
    """How a command ended: its status, its line of JSON, and what it said to people."""

    status: int
    result: dict[str, Any]
    said: str


class Keys(NamedTuple):
    recipients: Path
    identity: Path


def environment(cluster: Cluster, database: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ERP_", "PG"))}
    return {**kept, "ERP_MIGRATION_DATABASE_URL": cluster.owner_url(database)}


def ran(
    name: str,
    *arguments: object,
    env: dict[str, str],
    before: Callable[[], None] | None = None,
    given: str | None = None,
) -> Ran:
    """ops/NAME, to its end; `given` is what it reads from its standard input."""
    command = [sys.executable, str(OPS / name), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, preexec_fn=before, input=given)
    lines = done.stdout.splitlines()
    return Ran(done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr)


def made_keys(path: Path) -> Keys:
    said = subprocess.run(["age-keygen", "-o", path], capture_output=True, text=True, check=True)
    public = path.with_suffix(".pub")
    public.write_text(said.stderr.rpartition(" ")[2])
    return Keys(public, path)


@contextlib.contextmanager
def kept_log(cluster: Cluster, database: str, directory: Path, *more: object) -> Iterator[subprocess.Popen[bytes]]:
    """`ops/backup wal`, from the first segment on; ended in order."""
    command = [sys.executable, str(OPS / "backup"), "wal", "--to", str(directory), "--every", "0.2"]
    command += ["--pg-bin", str(cluster.bin), *(str(word) for word in more)]
    with subprocess.Popen(command, env=environment(cluster, database), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["ok"]
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0
