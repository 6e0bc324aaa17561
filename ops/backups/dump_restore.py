"""Loads a dump into a database."""

import json
import re
from datetime import UTC, datetime

from . import counts
from .catalogue import COUNTS, GLOBALS, Backup
from .encryption import Keys, reading, stored_path
from .options import Steps
from .programs import Failure, Server, query, run
from .verification import pg_restore, read_json, require_content

_RELATIONS = """
select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S');
"""
_CLIENTS = """
select coalesce(string_agg(distinct application_name, ', '), '') from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and application_name like 'erp%'
  and application_name <> 'erp backup';
"""
_ROLES = "select coalesce(json_agg(rolname), '[]') from pg_roles;"
_ROLE_STATEMENT = re.compile(r'(?:CREATE|ALTER) ROLE ("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)[ ;]')


def load(backup: Backup, keys: Keys, server: Server, steps: Steps, *, replace: bool) -> str | None:
    """Reads the whole backup before it changes the database, and compares the counts afterwards.

    Returns the schema to which `replace` moved the previous content. Raises Failure."""
    if backup.kind != "dump":
        raise Failure(f"{backup.name} is a copy of a cluster: ops/restore base")
    with steps.step("read the backup to its end"):
        require_content(backup, keys, server.programs)
        expected = read_json(backup, keys, COUNTS)
    with steps.step("look at the database"):
        moved_to = _make_room(server, replace=replace)
    with steps.step("roles"):
        _create_missing_roles(backup, keys, server)
    with steps.step("load"):
        arguments = ["--no-owner", "--exit-on-error", "--single-transaction", "--no-password"]
        pg_restore(backup, keys, server, *arguments, f"--dbname={server.database}")
    with steps.step("compare with what was counted when it was taken"):
        if wrong := counts.differences(expected, counts.current_counts(server)):
            raise Failure("what was loaded is not what was dumped: " + "; ".join(wrong))
        run(server, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-c", "analyze")
    return moved_to


def _make_room(server: Server, *, replace: bool) -> str | None:
    if clients := query(server, _CLIENTS):
        raise Failure(f"the database is in use ({clients}): stop every instance and worker first")
    if query(server, _RELATIONS) == "0":
        return None
    if not replace:
        raise Failure(
            f"the database {server.database} is not empty: name an empty one, or say --replace, which moves what is"
            " there aside"
        )
    schema = f"before_restore_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    query(
        server,
        f"begin; alter schema public rename to {schema}; create schema public authorization pg_database_owner;"
        " grant usage on schema public to public; commit;",
    )
    return schema


def _create_missing_roles(backup: Backup, keys: Keys, server: Server) -> None:
    """The roles that the dump's owners and grants name and this cluster lacks. Existing roles are not changed."""
    missing = set(backup.manifest().get("roles", [])) - set(json.loads(query(server, _ROLES)))
    if not missing:
        return
    with reading(stored_path(backup.path, GLOBALS), keys) as file:
        lines = file.read().decode().splitlines()
    statements = [line for line in lines if (match := _ROLE_STATEMENT.match(line)) and _unquoted(match[1]) in missing]
    query(server, "\n".join(statements))


def _unquoted(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier
