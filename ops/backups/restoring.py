"""Load a dump into a database."""

import contextlib
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from . import proof, reading_back
from .place import DUMP, GLOBALS, PROOF, Backup
from .programs import Failed, Server, command, complaint, pieces, query, run
from .sealed import Keys, reading, stored

_FULL = """
select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S');
"""
_IN_USE = """
select coalesce(string_agg(distinct application_name, ', '), '') from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and application_name like 'erp%'
  and application_name <> 'erp backup';
"""
_ROLES = "select coalesce(json_agg(rolname), '[]') from pg_roles;"
_ROLE_LINE = re.compile(r'(?:CREATE|ALTER) ROLE ("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)[ ;]')


class Steps:
    """The seconds of each step, for the drill's protocol."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 3)
        self._say(f"{self.seconds[name] / 60:7.2f} min  {name}")


class Aim(NamedTuple):
    """The database to load into; `replace` moves aside what it holds."""

    server: Server
    replace: bool


def load(backup: Backup, keys: Keys, aim: Aim, steps: Steps) -> str | None:
    """Reads all of the backup before the database is touched, and proves what was loaded.

    Returns the schema that what was there before has been moved to. Raises Failed."""
    if backup.kind != "dump":
        raise Failed(f"{backup.name} is a copy of a cluster: ops/restore base")
    with steps.step("read the backup to its end"):
        demand_readable(backup, keys, aim.server)
        expected = reading_back.read_json(backup, keys, PROOF)
    with steps.step("look at the database"):
        aside = _make_room(aim)
    with steps.step("roles"):
        _make_roles(backup, keys, aim.server)
    with steps.step("load"):
        _load(backup, keys, aim.server)
    with steps.step("compare with what was counted when it was taken"):
        if wrong := proof.differences(expected, proof.now(aim.server)):
            raise Failed("what was loaded is not what was dumped: " + "; ".join(wrong))
        run(aim.server, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-c", "analyze")
    return aside


def demand_readable(backup: Backup, keys: Keys, server: Server) -> None:
    """Raises Failed."""
    if reading_back.check(backup, keys, server.programs) != "content":
        raise Failed(f"{backup.name} is encrypted: give the secret key's file with --identity")


def _make_room(aim: Aim) -> str | None:
    if users := query(aim.server, _IN_USE):
        raise Failed(f"the database is in use ({users}): stop every instance and worker first")
    if query(aim.server, _FULL) == "0":
        return None
    if not aim.replace:
        raise Failed(
            f"the database {aim.server.database} is not empty: name an empty one, or say --replace, which moves what"
            " is there aside"
        )
    aside = f"before_restore_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    query(
        aim.server,
        f"begin; alter schema public rename to {aside}; create schema public authorization pg_database_owner;"
        " grant usage on schema public to public; commit;",
    )
    return aside


def _make_roles(backup: Backup, keys: Keys, server: Server) -> None:
    """Those that the database's grants name and this cluster lacks; nobody who is here is changed."""
    there = set(json.loads(query(server, _ROLES)))
    wanted = set(backup.manifest().get("roles", [])) - there
    if not wanted:
        return
    with reading(stored(backup.path, GLOBALS), keys) as file:
        lines = file.read().decode().splitlines()
    named = [line for line in lines if (match := _ROLE_LINE.match(line)) and _plain(match[1]) in wanted]
    query(server, "\n".join(named))


def _plain(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def _load(backup: Backup, keys: Keys, server: Server) -> None:
    arguments = ["--format=custom", "--no-owner", "--exit-on-error", "--single-transaction", "--no-password"]
    with (
        tempfile.TemporaryFile() as said,
        reading(stored(backup.path, DUMP), keys) as file,
        subprocess.Popen(
            command(server, "pg_restore", *arguments, f"--dbname={server.database}"),
            env=server.environment(),
            stdin=subprocess.PIPE,
            stderr=said,
        ) as restoring,
    ):
        if restoring.stdin is None:
            raise AssertionError
        with contextlib.suppress(BrokenPipeError):
            for piece in pieces(file):
                restoring.stdin.write(piece)
            restoring.stdin.close()
        if status := restoring.wait():
            said.seek(0)
            raise Failed(complaint("pg_restore", said.read().decode(errors="replace"), status))
