"""ops/backup"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import base_backup, catalogue, dump, metrics, options, verification, wal_archive, wal_receiver
from .catalogue import KINDS, Backup, Busy, Kind
from .encryption import Keys
from .programs import Failure, Server, query, system_identifier, wait_until_available
from .record import record
from .retention import Retention

_ABOUT = """\
Back up the database of erp_service, and prove that the backup can be read.

  ops/backup dump  --to /backups            every night: one database, by pg_dump; restores into any newer Postgres
  ops/backup base  --to /backups            every night or week: the cluster, by pg_basebackup; with it, all the time,
  ops/backup wal   --to /backups            its write-ahead log (WAL): the two restore any time since the base backup
  ops/backup check /backups/2026...-dump    read one to its end, as a restore would
  ops/backup status --to /backups           how old the newest ones are

The address comes from --database or ERP_MIGRATION_DATABASE_URL. With --recipients, files are encrypted by age, and
the host that makes them cannot read them; by hand: age -d -i KEY database.dump.age | pg_restore -d erp
A backup gets its name only when it is complete and was read back. Export files can be made again, and are left out
by default. The result is one line of JSON on standard output; dump and base also leave a record in the database, by
ERP_BACKUP_RECORD_URL (also ..._FILE) if the role that takes the backup may not write there.

exit status: 0 done, 1 failed and nothing was made, 2 wrong command line, 75 another backup is being taken
"""
_MAX_AGE_HOURS = 26.0
_SUPERUSER = "select rolname from pg_roles where oid = 10;"


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "wal":
        return _wal(given)
    after = None
    if getattr(given, "metrics", None) is not None:
        after = lambda result: metrics.write_run(given.metrics, given.command, result)  # noqa: E731
    return options.run_reported("backup", lambda: _COMMANDS[given.command](given), after)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("backup", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="dump | base | wal | check | status")
    for kind in KINDS:
        one = commands.add_parser(kind, help=f"take a {kind} backup")
        _add_common(one)
        one.add_argument(
            "--keep", type=_retention, default=Retention(), metavar="D/W/M", help="days/weeks/months; 7/5/12"
        )
        one.add_argument(
            "--wait", type=float, default=0.0, metavar="SECONDS", help="so long for the database, or a leader; 0"
        )
    commands.choices["dump"].add_argument(
        "--export-files", type=Path, metavar="DIR", help="the directory of the export store, to be included"
    )
    commands.choices["dump"].add_argument(
        "--stored-exports", action="store_true", help="include export files of the store postgres:"
    )
    commands.choices["base"].add_argument(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="for an unencrypted copy of the cluster while it is checked, used by nothing else; else TMPDIR",
    )
    one = commands.add_parser("wal", help="archive the WAL, until SIGTERM")
    _add_common(one)
    one.add_argument("--every", type=float, default=10.0, metavar="SECONDS", help="archive so often; 10")
    one.add_argument("--spool", type=Path, metavar="DIR", help="where WAL arrives, unencrypted; a disk that stays")
    one.add_argument("--forget", action="store_true", help="drop the slot, so that the server retains no WAL for us")
    one = commands.add_parser("check", help="read a backup to its end")
    one.add_argument("backup", type=Path)
    options.add_identity(one)
    options.add_programs(one)
    one = commands.add_parser("status", help="how old the newest backups are; status 1 if too old")
    one.add_argument("--to", type=Path, required=True, metavar="DIR")
    one.add_argument("--max-age-hours", type=float, default=_MAX_AGE_HOURS, metavar="HOURS", help="26")
    one.add_argument("--kind", choices=KINDS, help="only of this kind")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the directory of backups")
    options.add_database(parser, "the owner's address; for base and wal, of a role with REPLICATION")
    options.add_recipients(parser)
    options.add_programs(parser)
    options.add_identity(parser)
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="for node_exporter's textfile collector")


def _retention(text: str) -> Retention:
    try:
        return Retention.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be days/weeks/months, such as 7/5/12") from None


def _dump(given: argparse.Namespace) -> dict[str, Any]:
    keys, exports = options.keys(given), dump.ExportFiles(given.stored_exports, given.export_files)
    return _take(given, "dump", lambda server, hidden: dump.take_dump(server, hidden, keys, exports))


def _base(given: argparse.Namespace) -> dict[str, Any]:
    keys = options.keys(given)
    result = _take(
        given, "base", lambda server, hidden: base_backup.take_base_backup(server, hidden, keys, given.scratch)
    )
    return {**result, "log_removed": len(wal_archive.prune(given.to))}


def _take(given: argparse.Namespace, kind: Kind, write: Callable[[Server, Path], dict[str, Any]]) -> dict[str, Any]:
    """The backup, and its record in the database."""
    server, began = options.database(given), time.monotonic()
    try:
        result = _taken(given, server, kind, write)
    except Busy:
        raise
    except (Failure, OSError):
        record(server, kind, time.monotonic() - began, given.to, None)
        raise
    record(server, kind, time.monotonic() - began, given.to / result["backup"], result["bytes"])
    return result


def _taken(
    given: argparse.Namespace, server: Server, kind: Kind, write: Callable[[Server, Path], dict[str, Any]]
) -> dict[str, Any]:
    """Writes, reads back, gives the name; only then it removes older backups."""
    keys = options.keys(given)
    wait_until_available(server, given.wait)
    with catalogue.locked(given.to), catalogue.incomplete(given.to, kind) as (hidden, name):
        manifest = {**_begun(server, kind, keys), **write(server, hidden)}
        catalogue.complete(hidden, manifest)
        checked = verification.verify(Backup(hidden, kind, datetime.now(UTC)), keys, given.pg_bin)
        backup = catalogue.publish(hidden, name)
        removed = catalogue.remove_expired(given.to, kind, given.keep)
    options.log(f"backup: {backup.path} is complete: {backup.bytes:,} bytes, read back: {checked}")
    return {
        "kind": kind,
        "backup": backup.name,
        "at": manifest["taken_at"],
        "bytes": backup.bytes,
        "encrypted": manifest["encrypted"],
        "checked": checked,
        "removed": removed,
    }


def _begun(server: Server, kind: Kind, keys: Keys) -> dict[str, Any]:
    """The part of the manifest that is known before the backup."""
    return {
        "format": 1,
        "kind": kind,
        "taken_at": catalogue.timestamp(),
        "database": server.database,
        "server": query(server, "show server_version;"),
        "system_identifier": system_identifier(server),
        "superuser": query(server, _SUPERUSER),
        "encrypted": keys.recipients is not None,
    }


def _check(given: argparse.Namespace) -> dict[str, Any]:
    backup = catalogue.backup_at(given.backup)
    checked = verification.verify(backup, options.keys(given), given.pg_bin)
    return {"backup": backup.name, "checked": checked, "bytes": backup.bytes}


def _status(given: argparse.Namespace) -> dict[str, Any]:
    """Raises Failure if there is no backup, or the newest of all is too old."""
    now = datetime.now(UTC)
    newest_by_kind: dict[str, Any] = {}
    for kind in KINDS if given.kind is None else [given.kind]:
        if backups := catalogue.backups(given.to, kind):
            newest = backups[-1]
            age = round((now - newest.at).total_seconds())
            newest_by_kind[kind] = {
                "backup": newest.name,
                "age_seconds": age,
                "bytes": newest.bytes,
                "kept": len(backups),
            }
    if not newest_by_kind:
        raise Failure(f"{given.to} holds no {given.kind or 'backup'}")
    youngest = min(newest_by_kind.values(), key=lambda one: int(one["age_seconds"]))
    if youngest["age_seconds"] >= given.max_age_hours * 3600:
        hours = youngest["age_seconds"] / 3600
        raise Failure(f"the newest backup, {youngest['backup']}, is {hours:.1f} hours old")
    return newest_by_kind


def _wal(given: argparse.Namespace) -> int:
    """Reports each archived file as long as it runs; a failure that may pass does not end it."""

    def write_metrics(complete: bool, recoverable_until: float | None) -> None:
        if given.metrics is not None:
            metrics.write_wal(given.metrics, ok=complete, recoverable_until=recoverable_until)

    def action() -> dict[str, Any]:
        server = options.database(given)
        if given.forget:
            wal_receiver.drop_slot(server)
            return {"kind": "wal", "slot": "dropped"}
        archived = 0
        keys = options.keys(given)
        for result in wal_receiver.receive(
            server, given.to, keys, given.spool, every=given.every, on_round=write_metrics
        ):
            archived += "segment" in result
            options.report(result)
        return {"kind": "wal", "kept": archived}

    return options.run_reported("backup", action, lambda result: None if result["ok"] else write_metrics(False, None))


_COMMANDS = {"dump": _dump, "base": _base, "check": _check, "status": _status}
