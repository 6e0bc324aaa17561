"""ops/restore"""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import after_restore, catalogue, dump_restore, options, recovery
from .catalogue import Backup
from .options import Steps
from .programs import Server

_ABOUT = """\
Restore a backup of erp_service, prove it, and say what is lost.

  ops/restore dump /backups/20261123T020000Z-dump --database postgresql://owner@host/erp
  ops/restore base /backups --data-directory /var/lib/postgresql/data --until '2026-11-23 16:04:59+00:00'

Stop every instance and worker first. `dump` loads into an empty database. `base` takes the newest base backup before
the time (or the one that is named), replays the WAL up to it, and leaves a stopped cluster. Nothing is ever
deleted: with --replace, what is there is moved aside. The backup is read to its end before anything is changed.

Afterwards all sessions are ended, since a user who was locked out after the backup would be back; the database has a
new export store, so that a copy never clears its original's (--same-store: it takes the place of the original); then
`erp migrate` and `erp verify` run, if the command is here. ops/runbooks/restore.md says what people must do then.

exit status: 0 restored and proved, 1 failed, 2 wrong command line
"""


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    return options.run_reported("restore", lambda: _dump(given) if given.command == "dump" else _base(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "restore", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="dump | base")
    one = commands.add_parser("dump", help="load a dump into a database")
    options.add_database(one, "the owner's address of the database to load into")
    _add_common(one)
    one.add_argument(
        "--export-files",
        type=Path,
        metavar="DIR",
        help="unpack the backup's export files here, as the store they were",
    )
    one = commands.add_parser("base", help="recover a cluster, up to a time")
    _add_common(one)
    one.add_argument("--data-directory", type=Path, required=True, metavar="DIR", help="of the cluster to be made")
    one.add_argument("--until", type=_time, metavar="TIME", help="with its zone; what was committed later is lost")
    one.add_argument(
        "--timeline",
        type=int,
        metavar="N",
        help="not to the newest one: that of before a failover ends with what only the lost primary had",
    )
    one.add_argument("--run-as", metavar="USER", help="the owner of the cluster, if root runs this (postgres)")
    one.add_argument("--database-name", metavar="NAME", help="of the service's database, if not the one in the backup")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", type=Path, help="its directory; for base also the directory of all backups")
    parser.add_argument("--replace", action="store_true", help="move aside what is there")
    parser.add_argument("--same-store", action="store_true", help="the export store outlived the database: keep it")
    parser.add_argument(
        "--store-directory",
        type=Path,
        metavar="DIR",
        help="with --same-store: expire exports whose files are gone from it",
    )
    parser.add_argument("--erp", metavar="COMMAND", help="the service's command; '' to leave migrate and verify to you")
    options.add_identity(parser)
    options.add_programs(parser)


def _time(text: str) -> datetime:
    try:
        if (time := datetime.fromisoformat(text)).tzinfo is not None:
            return time
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("must be a time with its zone, such as 2026-11-23 16:04:59+00:00")


def _dump(given: argparse.Namespace) -> dict[str, Any]:
    server, keys = options.database(given), options.keys(given)
    backup = catalogue.backup_at(given.backup)
    steps = Steps()
    moved_to = dump_restore.load(backup, keys, server, steps, replace=given.replace)
    same_store = given.same_store
    if given.export_files is not None:
        with steps.step("export files"):
            after_restore.unpack_exports(backup, keys, given.export_files)
        given.store_directory, same_store = given.export_files, True
    result = _settle(given, backup, server, options.database_address(given), steps, same_store=same_store)
    if moved_to:
        options.log(
            f"The previous content is in the schema {moved_to}: drop schema {moved_to} cascade, once nobody needs it."
        )
    return {**result, "moved_aside": moved_to}


def _base(given: argparse.Namespace) -> dict[str, Any]:
    keys = options.keys(given)
    backup = recovery.choose(given.backup, keys, given.until, given.timeline)
    manifest = backup.manifest()
    plan = recovery.Plan(
        given.data_directory.absolute(),
        given.until,
        given.timeline,
        given.replace,
        recovery.account_of(given.run_as),
        given.pg_bin,
        given.database_name or manifest["database"],
        manifest["superuser"],
    )
    steps = Steps()
    with recovery.recovered(backup, keys, plan, steps) as server:
        result = _settle(given, backup, server, _address(server), steps, same_store=given.same_store)
    options.log(f"The cluster is in {plan.cluster}, stopped: start it, and take a base backup at once.")
    return {**result, "data_directory": str(plan.cluster)}


def _address(server: Server) -> str:
    names = server.variables
    return (
        f"postgresql://{quote(names['PGUSER'])}@/{quote(names['PGDATABASE'])}?host={quote(names['PGHOST'])}&port=5432"
    )


def _settle(
    given: argparse.Namespace, backup: Backup, server: Server, address: str, steps: Steps, *, same_store: bool
) -> dict[str, Any]:
    until = getattr(given, "until", None)
    with steps.step("end all sessions, name the store"):
        last = after_restore.settle(server, backup, same_store=same_store, until=str(until) if until else None)
        expired = None
        if same_store and given.store_directory is not None:
            expired = after_restore.expire_missing(server, given.store_directory)
    store = {"ERP_EXPORT_STORE": given.store_directory.absolute().as_uri()} if given.store_directory else {}
    erp = after_restore.find_erp(given.erp)
    if erp is None:
        options.log("Now run, where the service is: erp migrate, and then erp verify")
    else:
        with steps.step("erp migrate"):
            after_restore.run_erp(erp, address, "migrate")
        with steps.step("erp verify"):
            options.log(after_restore.run_erp(erp, address, "verify", environment=store).strip())
    _log_what_is_lost(last)
    return {
        "backup": backup.name,
        "until": str(until) if until else None,
        "last_entry_at": last or None,
        "exports_missing": expired,
        "verified": True if erp else None,
        "steps": steps.seconds,
    }


def _log_what_is_lost(last: str) -> None:
    if not last:
        options.log("The audit log is empty: nothing was ever recorded in this database.")
        return
    gap = datetime.now(UTC) - datetime.fromisoformat(last)
    options.log(
        f"The last audit entry of this database is of {last}, {gap.total_seconds() / 60:,.1f} minutes ago."
        " What was done since is lost: bookings, but also roles taken away, users deactivated, passwords changed."
        " All sessions were ended. Review users and roles before the service is opened: ops/runbooks/restore.md"
    )
