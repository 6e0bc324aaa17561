"""ops/backup"""

import argparse
import contextlib
import fcntl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import options, place, reading_back, taking, wal
from .place import KINDS, Backup, Kind
from .programs import Failed, Server
from .rotation import Keep

_ABOUT = """\
Back up the database of erp_service, and prove that the backup can be read.

  ops/backup dump  --to /backups            every night: one database, by pg_dump; restores anywhere
  ops/backup base  --to /backups            every night: the cluster, by pg_basebackup; and beside it, all the time,
  ops/backup wal   --to /backups            its log as it is written: together, any moment since can be had back
  ops/backup check /backups/2026...-dump    read one to its end, as a restore would
  ops/backup status --to /backups           how old the newest ones are

The address comes from --database or ERP_MIGRATION_DATABASE_URL. With --recipients, files are encrypted by age, and
the host that makes them cannot read them; by hand: age -d -i KEY database.dump.age | pg_restore -d erp
A backup has its name only once it is whole and was read back. Export files can be made again, and are left out
unless asked for. One line of JSON on standard output says how it went.

exit status: 0 done, 1 failed and nothing was made, 2 wrong command line, 75 another backup is at work
"""
_MAX_AGE_HOURS = 26.0
_OK = 'erp_backup_last_run_ok{{kind="{}"}}'


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "wal":
        return _wal(given)
    after = None
    if getattr(given, "metrics", None) is not None:
        after = lambda result: write_metrics(given.metrics, given.command, result)  # noqa: E731
    return options.told("backup", lambda: _COMMANDS[given.command](given), after)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("backup", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="dump | base | wal | check | status")
    for kind in KINDS:
        one = commands.add_parser(kind, help=f"take a {kind} backup")
        _add_common(one)
        one.add_argument("--keep", type=_keep, default=Keep(), metavar="D/W/M", help="days/weeks/months; 7/5/12")
        _add_metrics(one)
        options.add_identity(one)
    commands.choices["dump"].add_argument(
        "--export-files", type=Path, metavar="DIR", help="the directory of the export store, to be kept as well"
    )
    commands.choices["dump"].add_argument(
        "--stored-exports", action="store_true", help="keep export files of the store postgres: as well"
    )
    commands.choices["base"].add_argument(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="room for a clear copy of the cluster while it is checked, of this backup alone; else TMPDIR",
    )
    one = commands.add_parser("wal", help="keep the log, until SIGTERM")
    _add_common(one)
    one.add_argument("--every", type=float, default=10.0, metavar="SECONDS", help="the most that is lost; 10")
    one.add_argument("--spool", type=Path, metavar="DIR", help="where it arrives, in the clear; a disk that stays")
    one.add_argument("--forget", action="store_true", help="drop the slot, so that the server waits for us no more")
    _add_metrics(one)
    options.add_identity(one)
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


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="for node_exporter's textfile collector")


def _keep(text: str) -> Keep:
    try:
        return Keep.read(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be days/weeks/months, such as 7/5/12") from None


def _dump(given: argparse.Namespace) -> dict[str, Any]:
    wanted = taking.Wanted(options.keys(given), None, given.stored_exports, given.export_files)
    return _taken(given, "dump", lambda server, hidden: taking.dump(server, hidden, wanted))


def _base(given: argparse.Namespace) -> dict[str, Any]:
    wanted = taking.Wanted(options.keys(given), given.scratch)
    result = _taken(given, "base", lambda server, hidden: taking.base(server, hidden, wanted))
    return {**result, "log_removed": len(wal.prune(given.to))}


def _taken(given: argparse.Namespace, kind: Kind, fill: Callable[[Server, Path], dict[str, Any]]) -> dict[str, Any]:
    """Written, read back, named, and only then may older ones go."""
    server, keys = options.database(given), options.keys(given)
    with place.locked(given.to), place.part(given.to, kind) as (hidden, name):
        manifest = fill(server, hidden)
        place.complete(hidden, manifest)
        checked = reading_back.check(Backup(hidden, kind, datetime.now(UTC)), keys, given.pg_bin)
        backup = place.publish(hidden, name)
        removed = place.rotate(given.to, kind, given.keep)
    options.say(f"backup: {backup.path} is whole: {backup.bytes:,} bytes, read back: {checked}")
    return {
        "kind": kind,
        "backup": backup.name,
        "at": manifest["taken_at"],
        "bytes": backup.bytes,
        "encrypted": manifest["encrypted"],
        "checked": checked,
        "removed": removed,
    }


def _check(given: argparse.Namespace) -> dict[str, Any]:
    backup = place.named(given.backup)
    checked = reading_back.check(backup, options.keys(given), given.pg_bin)
    return {"backup": backup.name, "checked": checked, "bytes": backup.bytes}


def _status(given: argparse.Namespace) -> dict[str, Any]:
    """Raises Failed if there is none, or the newest of all is too old."""
    now = datetime.now(UTC)
    found: dict[str, Any] = {}
    for kind in KINDS if given.kind is None else [given.kind]:
        if all_ := place.backups(given.to, kind):
            newest = all_[-1]
            age = round((now - newest.at).total_seconds())
            found[kind] = {"backup": newest.name, "age_seconds": age, "bytes": newest.bytes, "kept": len(all_)}
    if not found:
        raise Failed(f"{given.to} holds no {given.kind or 'backup'}")
    youngest = min(found.values(), key=lambda one: int(one["age_seconds"]))
    if youngest["age_seconds"] > given.max_age_hours * 3600:
        hours = youngest["age_seconds"] / 3600
        raise Failed(f"the newest backup, {youngest['backup']}, is {hours:.1f} hours old")
    return found


def _wal(given: argparse.Namespace) -> int:
    """A line for each segment, for as long as it runs; a fault that may pass ends nothing."""

    def work() -> dict[str, Any]:
        server = options.database(given)
        if given.forget:
            wal.forget(server)
            return {"kind": "wal", "slot": "dropped"}
        kept = 0
        keys = options.keys(given)
        for line in wal.receive(server, given.to, keys, given.spool, every=given.every, told=told):
            kept += bool(line["ok"])
            options.tell(line)
        return {"kind": "wal", "kept": kept}

    def told(whole: bool, until: float | None) -> None:
        lines: dict[str, float] = {_OK.format("wal"): int(whole)}
        if until is not None:
            lines["erp_backup_log_kept_until_timestamp_seconds"] = until
        # a full disk ends nothing: what stays there then is a moment that gets older and older
        with contextlib.suppress(OSError):
            if given.metrics is not None:
                merge_metrics(given.metrics, lines)

    return options.told("backup", work, lambda result: None if result["ok"] else told(False, None))


def write_metrics(path: Path, kind: str, result: dict[str, Any]) -> None:
    """What a failed run does not know stays."""
    label = f'{{kind="{kind}"}}'
    lines: dict[str, float] = {
        _OK.format(kind): int(result["ok"]),
        f"erp_backup_last_run_seconds{label}": result["seconds"],
    }
    if result["ok"]:
        lines[f"erp_backup_last_success_timestamp_seconds{label}"] = int(time.time())
        lines[f"erp_backup_bytes{label}"] = result["bytes"]
    merge_metrics(path, lines)


def merge_metrics(path: Path, lines: dict[str, float]) -> None:
    """Under a lock, since `wal` and others may share a file; renamed, since the collector may look at any moment."""
    hidden = path.with_name(f".{path.name}.part")
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError):
            known = dict(line.rsplit(" ", 1) for line in path.read_text().splitlines())
        hidden.write_text("".join(f"{name} {value}\n" for name, value in sorted({**known, **lines}.items())))
        hidden.rename(path)


_COMMANDS = {"dump": _dump, "base": _base, "check": _check, "status": _status}
