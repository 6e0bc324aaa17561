"""Take a backup: a dump of one database, or a copy of the whole cluster to which write-ahead log can be replayed."""

import contextlib
import gzip
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from . import proof
from .place import BASE, DUMP, FILES, GLOBALS, PROOF, Kind
from .programs import Failed, Server, command, complaint, pieces, query, run
from .sealed import Keys, writing

_SCRATCH = "erp-backup-"
_LEVEL = 3  # of gzip: a third of the time of the default, and a tenth larger

_ROLES = """
select coalesce(json_agg(distinct role.rolname), '[]') from pg_shdepend depend
join pg_roles role on role.oid = depend.refobjid
where depend.refclassid = 'pg_authid'::regclass
  and depend.dbid = (select oid from pg_database where datname = current_database());
"""
_MAY_READ_PASSWORDS = "select rolsuper from pg_roles where rolname = current_user;"
_SYSTEM = "select system_identifier from pg_control_system();"
_SEGMENT_BYTES = "select setting::bigint from pg_settings where name = 'wal_segment_size';"
_SUPERUSER = "select rolname from pg_roles where oid = 10;"
_TABLESPACES = "select count(*) from pg_tablespace where spcname not in ('pg_default', 'pg_global');"


class Wanted(NamedTuple):
    """What a backup is made of besides the database. `scratch` holds a clear copy of the cluster for a while;
    `export_files` is the directory of the export store, if it is to be kept too."""

    keys: Keys
    scratch: Path | None = None
    stored_exports: bool = False
    export_files: Path | None = None


def dump(server: Server, hidden: Path, wanted: Wanted) -> dict[str, Any]:
    """By pg_dump, in its custom format, into a directory; returns the manifest. Raises Failed, OSError."""
    manifest = _manifest(server, "dump", wanted.keys)
    with proof.snapshot(server) as taken:
        with writing(hidden, DUMP, wanted.keys) as out:
            for piece in _dumped(server, taken.id, wanted):
                out.write(piece)
        with writing(hidden, PROOF, wanted.keys) as out:
            out.write(json.dumps(taken.proof, indent=2).encode())
    with writing(hidden, GLOBALS, wanted.keys) as out:
        out.write(_globals(server).encode())
    if wanted.export_files is not None:
        _pack_exports(hidden, wanted.export_files, wanted.keys)
    return {**manifest, "roles": json.loads(query(server, _ROLES)), "ended_at": _now()}


def base(server: Server, hidden: Path, wanted: Wanted) -> dict[str, Any]:
    """By pg_basebackup, with the log that was written meanwhile, checked by pg_verifybackup before it is packed.

    Returns the manifest. Raises Failed, OSError."""
    if query(server, _TABLESPACES) != "0":
        raise Failed("the cluster has tablespaces of its own, which a base backup of ours does not hold: use dump")
    manifest = _manifest(server, "base", wanted.keys)
    # one that was killed left its copy there, in the clear; our caller holds the lock
    for left in wanted.scratch.glob(f"{_SCRATCH}*") if wanted.scratch is not None else ():
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=wanted.scratch) as scratch:
        copy = Path(scratch) / "base"
        arguments = ["--checkpoint=fast", "--wal-method=stream", "--manifest-checksums=SHA256", "--no-password"]
        run(server, "pg_basebackup", "-D", str(copy), *arguments)
        ended_at = _now()
        run(server, "pg_verifybackup", "--quiet", str(copy))
        first = json.loads((copy / "backup_manifest").read_text())["WAL-Ranges"][0]
        with writing(hidden, BASE, wanted.keys) as out:
            _pack(copy, out)
    size = int(query(server, _SEGMENT_BYTES))
    start = segment(first["Timeline"], first["Start-LSN"], size)
    return {**manifest, "ended_at": ended_at, "wal_start": start, "segment_bytes": size}


def segment(timeline: int, lsn: str, segment_bytes: int) -> str:
    """The name of the file of write-ahead log that holds a position such as `0/2000028`."""
    high, low = (int(half, 16) for half in lsn.split("/"))
    return f"{timeline:08X}{high:08X}{low // segment_bytes:08X}"


def _manifest(server: Server, kind: Kind, keys: Keys) -> dict[str, Any]:
    return {
        "format": 1,
        "kind": kind,
        "taken_at": _now(),
        "database": server.database,
        "server": query(server, "show server_version;"),
        "system_identifier": query(server, _SYSTEM),
        "superuser": query(server, _SUPERUSER),
        "encrypted": keys.recipients is not None,
    }


def _dumped(server: Server, snapshot: str, wanted: Wanted) -> Iterator[bytes]:
    """The dump, while pg_restore reads it along: `--list` would read the table of contents and no more."""
    arguments = ["--format=custom", f"--snapshot={snapshot}", "--no-unlogged-table-data", "--no-password"]
    if not wanted.stored_exports:
        arguments += ["--exclude-table-data=export_chunks", "--exclude-table-data=export_files"]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as noticed:
        dumping = subprocess.Popen(
            command(server, "pg_dump", *arguments), env=server.environment(), stdout=subprocess.PIPE, stderr=said
        )
        reading = subprocess.Popen(
            command(server, "pg_restore", "--format=custom", "--file=/dev/null"),
            env=server.environment(),
            stdin=subprocess.PIPE,
            stderr=noticed,
        )
        try:
            if dumping.stdout is None or reading.stdin is None:
                raise AssertionError
            yield from _both(dumping.stdout, reading.stdin)
            _demand("pg_dump", dumping, said)
            _demand("pg_restore, reading the dump back,", reading, noticed)
        finally:
            for process, pipe in ((dumping, dumping.stdout), (reading, reading.stdin)):
                process.kill()
                if pipe is not None:
                    pipe.close()
                process.wait()


def _both(source: IO[bytes], other: IO[bytes]) -> Iterator[bytes]:
    broken = False
    for piece in pieces(source):
        try:
            if not broken:
                other.write(piece)
        except BrokenPipeError:
            broken = True  # its status says why, once all has come
        yield piece
    with contextlib.suppress(BrokenPipeError):
        other.close()


def _demand(name: str, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    if status := process.wait():
        said.seek(0)
        raise Failed(complaint(name, said.read().decode(errors="replace"), status))


def _globals(server: Server) -> str:
    # who is no superuser cannot read how passwords are checked, and restores roles that cannot log in
    reads = query(server, _MAY_READ_PASSWORDS) == "t"
    return run(server, "pg_dumpall", "--globals-only", "--no-password", *([] if reads else ["--no-role-passwords"]))


def _pack(directory: Path, out: Any) -> None:
    """The manifest first, so that whoever reads the rest as a stream knows what it must be."""
    with _archive(out, _LEVEL) as tar:
        tar.add(directory / "backup_manifest", "backup_manifest")
        for path in sorted(directory.rglob("*")):
            if path.name != "backup_manifest":
                tar.add(path, str(path.relative_to(directory)), recursive=False)


def _pack_exports(hidden: Path, exports: Path, keys: Keys) -> None:
    """Whole files only; one that expires while we look is none that is missed."""
    if not exports.is_dir():
        raise Failed(f"there is no directory {exports} with export files")
    with writing(hidden, FILES, keys) as out, _archive(out, 1) as tar:
        for path in sorted(exports.iterdir()):
            if path.is_file() and not path.name.endswith(".part"):
                with contextlib.suppress(FileNotFoundError):
                    tar.add(path, path.name, recursive=False)


@contextlib.contextmanager
def _archive(out: Any, level: int) -> Iterator[tarfile.TarFile]:
    with (
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=level, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        yield tar


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
