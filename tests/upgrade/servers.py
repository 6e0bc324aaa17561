"""Two PostgreSQL servers of different major versions in one test, and the command ops/upgrade-postgres."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from erp_service.standalone import postgres
from erp_service.standalone.postgres import Cluster
from tests.support import other_server

OPS = Path(__file__).parents[2] / "ops"
STORE = "postgres:"
"""Where export files are: so they move with the database."""

OLD_PROGRAMS = Path("/usr/lib/postgresql/15/bin")


def owner_of(database: str) -> str:
    return f"{database}_owner"


class Result(NamedTuple):
    """How the command ended: its exit status, its line of JSON, and its standard error, which is for people."""

    status: int
    result: dict[str, Any]
    log: str


class Servers(NamedTuple):
    """`old` is PostgreSQL 15 with wal_level = logical, `new` the embedded one."""

    old: Cluster
    new: Cluster

    @staticmethod
    def of_owner(cluster: Cluster, database: str) -> str:
        """The address of the role that owns the database and its tables."""
        return cluster.owner_url(database).replace("//postgres@", f"//{owner_of(database)}@")

    def upgrade(self, command: str, database: str, *more: object) -> Result:
        """Runs ops/upgrade-postgres to its end."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ERP_", "PG"))}
        env["ERP_UPGRADE_OLD_URL"] = self.old.owner_url(database)
        env["ERP_UPGRADE_NEW_URL"] = self.new.owner_url(database)
        env["ERP_UPGRADE_OWNER_URL"] = self.of_owner(self.new, database)
        # erp verify reads the files of exports as well
        env["ERP_EXPORT_STORE"] = STORE
        env["ERP_UPGRADE_OLD_FROM_NEW_URL"] = _of_socket(self.old, database)
        words = [sys.executable, OPS / "upgrade-postgres", command, "--pg-bin", self.new.bin, *more]
        done = subprocess.run([*map(str, words)], env=env, capture_output=True, text=True, timeout=240)
        lines = done.stdout.splitlines()
        return Result(done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr)

    def done(self, command: str, database: str, *more: object) -> Result:
        """The same, and it must succeed."""
        result = self.upgrade(command, database, *more)
        assert result.status == 0, result.log
        return result


def _of_socket(cluster: Cluster, database: str) -> str:
    """The address for the other server, whose account cannot follow the caller's link to a long path."""
    return f"postgresql://postgres@/{database}?host={quote(str(cluster.data_dir / 'socket'))}&port=5432"


@contextlib.contextmanager
def two_servers(directory: Path) -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        with other_server.using(OLD_PROGRAMS):
            old = stack.enter_context(postgres.running(directory / "old", fsync=False, wal_level="logical"))
        yield Servers(old, stack.enter_context(postgres.running(directory / "new", fsync=False)))
