"""Takes a dump: one database, by pg_dump in its custom format, on one snapshot."""

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from .catalogue import COUNTS, DUMP, EXPORTS, GLOBALS, timestamp
from .counts import exported_snapshot
from .encryption import Keys, writing, writing_tar
from .programs import Failure, Server, chunks, input_to, output_of, query, run

# those that own something in the database, or that a grant or a policy in it names
_ROLES = """
select coalesce(json_agg(distinct role.rolname), '[]') from pg_shdepend depend
join pg_roles role on role.oid = depend.refobjid
where depend.refclassid = 'pg_authid'::regclass
  and depend.dbid = (select oid from pg_database where datname = current_database());
"""
_IS_SUPERUSER = "select rolsuper from pg_roles where rolname = current_user;"


class ExportFiles(NamedTuple):
    """Which export files the dump includes: those of the store `postgres:`, those of a directory. None by default."""

    of_database: bool = False
    of_directory: Path | None = None


def take_dump(server: Server, hidden: Path, keys: Keys, exports: ExportFiles) -> dict[str, Any]:
    """Writes the files of the backup into `hidden`; returns what the manifest says of it. Raises Failure, OSError."""
    with exported_snapshot(server) as snapshot:
        _dump(server, hidden, keys, snapshot.id, exports)
        with writing(hidden, COUNTS, keys) as out:
            out.write(json.dumps(snapshot.counts, indent=2).encode())
    with writing(hidden, GLOBALS, keys) as out:
        out.write(_globals(server).encode())
    if exports.of_directory is not None:
        _pack_exports(hidden, exports.of_directory, keys)
    return {"roles": json.loads(query(server, _ROLES)), "ended_at": timestamp()}


def _dump(server: Server, hidden: Path, keys: Keys, snapshot_id: str, exports: ExportFiles) -> None:
    """pg_restore reads the dump while it is written, since what is encrypted cannot be read on this host later. (Its
    `--list` would read the table of contents only.)"""
    arguments = ["--format=custom", f"--snapshot={snapshot_id}", "--no-unlogged-table-data", "--no-password"]
    if not exports.of_database:
        arguments += ["--exclude-table-data=export_chunks", "--exclude-table-data=export_files"]
    with (
        # the outer one: if pg_dump fails, the message is pg_dump's and not that of pg_restore, which read half a dump
        input_to(server, "pg_restore", "--format=custom", "--file=/dev/null") as read_back,
        output_of(server, "pg_dump", *arguments) as dump,
        writing(hidden, DUMP, keys) as out,
    ):
        for chunk in chunks(dump):
            read_back(chunk)
            out.write(chunk)


def _globals(server: Server) -> str:
    # only a superuser can read password verifiers; without them, restored roles cannot log in
    superuser = query(server, _IS_SUPERUSER) == "t"
    return run(server, "pg_dumpall", "--globals-only", "--no-password", *([] if superuser else ["--no-role-passwords"]))


def _pack_exports(hidden: Path, directory: Path, keys: Keys) -> None:
    """Complete files only. A file may expire and be deleted meanwhile: it is left out."""
    if not directory.is_dir():
        raise Failure(f"there is no directory {directory} with export files")
    with writing_tar(hidden, EXPORTS, keys, level=1) as tar:
        for path in sorted(directory.iterdir()):
            if path.is_file() and not path.name.endswith(".part"):
                with contextlib.suppress(FileNotFoundError):
                    tar.add(path, path.name, recursive=False)
