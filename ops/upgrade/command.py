"""ops/upgrade-postgres"""

import argparse
import math
from collections.abc import Callable
from typing import Any

from ops.backups import options
from ops.backups.after_restore import find_erp, run_erp
from ops.backups.programs import Failure, Server

from . import obstacles, preparation, replication, switching
from .pair import Pair, State, alone, ask, connected_as, state_of

_ABOUT = """\
Move the database to a server of a newer major version of PostgreSQL, with a pause of seconds for those who write.

  ops/upgrade-postgres check  --old URL --new URL    what stands in the way, and what would be left behind
  ops/upgrade-postgres follow --old URL --new URL    roles, schema, a copy of all rows, and then every change, until it
                                                     is stopped; nobody is kept waiting, take the days it needs
  ops/upgrade-postgres status --old URL --new URL    how far it is; status 1 if something is wrong
  ops/upgrade-postgres switch --old URL --new URL    the pause: the old database refuses writes, the last changes
                                                     arrive, sequences are set, all is compared, the new one opens
  ops/upgrade-postgres back   --old URL --new URL    after switch: the old one again, if nobody wrote to the new one
  ops/upgrade-postgres finish --old URL --new URL    ends the replication; nobody can connect to the old one any more
  ops/upgrade-postgres cancel --old URL --new URL    instead of switch: takes it all away from the old database

Addresses are superusers', such as postgresql://postgres:password@host/erp; --old and --new can be left out if
ERP_UPGRADE_OLD_URL and ERP_UPGRADE_NEW_URL (or ..._FILE) are set, so that no password is in a command line. The old
server needs wal_level = logical. `follow` runs erp migrate and erp verify, with the service's environment, such as
ERP_EXPORT_STORE. Each command may be repeated, also after it was killed, and refuses what is not safe now. Between
switch and the moment when the instances have the new address, they read the old database and answer 503 to writes.
Deploy no release with a migration from follow to finish. ops/runbooks/postgres-upgrade.md is the whole way.

exit status: 0 done, 1 refused or failed (the message says what state things are in), 2 wrong command line
"""
_ANALYZE = "vacuum (analyze);"


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    return options.run_reported("upgrade-postgres", lambda: _run(given))


def _run(given: argparse.Namespace) -> dict[str, Any]:
    pair = _pair(given)
    if given.command in ("check", "status"):
        return _COMMANDS[given.command](given, pair)
    with alone(pair):
        return _COMMANDS[given.command](given, pair)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "upgrade-postgres", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar=" | ".join(_COMMANDS))
    for name in _COMMANDS:
        one = commands.add_parser(name)
        one.add_argument("--old", metavar="URL", help="the database in use; else ERP_UPGRADE_OLD_URL")
        one.add_argument(
            "--new", metavar="URL", help="the database to be, which need not exist; else ERP_UPGRADE_NEW_URL"
        )
        one.add_argument(
            "--old-from-new",
            metavar="URL",
            help="the old database as the new server reaches it, if that is another address; else"
            " ERP_UPGRADE_OLD_FROM_NEW_URL. The new server stores it, with its password, until finish or cancel",
        )
        options.add_programs(one)
    follow = commands.choices["follow"]
    follow.add_argument(
        "--owner",
        metavar="URL",
        help="the new database as the role that owns the tables; else ERP_UPGRADE_OWNER_URL, --new",
    )
    for one in (follow, commands.choices["switch"]):
        one.add_argument(
            "--patience", type=float, default=30.0, metavar="SECONDS", help="how long to wait for the last changes; 30"
        )
    follow.add_argument("--erp", metavar="COMMAND", help="the service's command; '' to leave migrate and verify to you")
    commands.choices["back"].add_argument(
        "--lose-writes", action="store_true", help="give up what was written to the new database since the switch"
    )
    return parser


def _address(given: argparse.Namespace, name: str, otherwise: str | None = None) -> str:
    """Raises Failure."""
    value = getattr(given, name, None) or options.variable(f"ERP_UPGRADE_{name.upper()}_URL") or otherwise
    if value is None:
        raise Failure(f"no {name} database is named: give --{name}, or set ERP_UPGRADE_{name.upper()}_URL")
    return str(value)


def _pair(given: argparse.Namespace) -> Pair:
    old, new = _address(given, "old"), _address(given, "new")
    seen = connected_as(_address(given, "old_from_new", old), given.pg_bin)
    return Pair(
        connected_as(old, given.pg_bin),
        connected_as(new, given.pg_bin),
        _address(given, "owner", new),
        _key_value_form(seen),
    )


def _key_value_form(server: Server) -> str:
    """Of libpq, without our own options: the server that connects sets those that it needs."""
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "dbname"}
    names |= {"PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert", "PGTARGETSESSIONATTRS": "target_session_attrs"}
    known = {names[name]: value for name, value in server.variables.items() if name in names}
    return " ".join(f"{name}='{_escaped(value)}'" for name, value in known.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _require(state: State, *allowed: State) -> None:
    if state not in allowed:
        raise Failure(f"not now: {state}")


def _refuse_if_any(found: list[str]) -> None:
    if found:
        raise Failure("; ".join(found))


def _check(given: argparse.Namespace, pair: Pair) -> dict[str, Any]:
    state = state_of(pair)
    found = obstacles.all_obstacles(pair, state)
    for text in found:
        options.log(f"in the way: {text}")
    extras = obstacles.left_behind(pair) if state is not State.NONE else []
    for thing in extras:
        options.log(f"left behind, make it by hand if it is needed: {thing}")
    _refuse_if_any(found)
    return {"state": state.name, "left_behind": extras}


def _follow(given: argparse.Namespace, pair: Pair) -> dict[str, Any]:
    state = state_of(pair)
    _require(state, State.NONE, State.FOLLOWING)
    _refuse_if_any(obstacles.all_obstacles(pair, state))
    steps = options.Steps()
    if state is State.NONE:
        with steps.step("roles, database, schema"):
            preparation.prepare(pair, given.erp)
        _refuse_if_any(list(obstacles.of_schemas(pair)))
        preparation.empty(pair)
        replication.begin(pair)
    with steps.step("copy"):
        copied = replication.wait_until_copied(pair)
    options.log(f"copied {copied.text}")
    with steps.step("changes since the copy began"):
        replication.wait_until_caught_up(pair, math.inf)
    with steps.step("vacuum and statistics"):
        ask(pair.new, _ANALYZE)
    lag = replication.wait_until_caught_up(pair, given.patience)
    erp = find_erp(given.erp)
    if erp is None:
        options.log("Now run, where the service is, against the new address: erp verify")
    else:
        with steps.step("erp verify of the new database"):
            options.log(run_erp(erp, pair.owner, "verify").strip())
    for thing in (extras := obstacles.left_behind(pair)):
        options.log(f"left behind, make it by hand if it is needed: {thing}")
    options.log(f"The new database follows the old one, {lag:.2f} s behind. When you are ready: switch.")
    return {
        "tables": copied.tables, "bytes": copied.bytes, "lag_seconds": round(lag, 3), "verified": True if erp else None,
        "left_behind": extras, "steps": steps.seconds,
    }  # fmt: skip


def _status(given: argparse.Namespace, pair: Pair) -> dict[str, Any]:
    state = state_of(pair)
    options.log(f"{state}.")
    if state in (State.NONE, State.ENDED):
        return {"state": state.name}
    now = replication.progress(pair)
    options.log(f"copied {now.text}")
    if state is State.FOLLOWING:
        _refuse_if_any(obstacles.all_obstacles(pair, state))
        if not now.enabled:
            raise Failure(f"the replication has stopped after {now.errors} errors: the log of the new server says why")
    return {
        "state": state.name, "tables": now.tables, "copied": now.ready, "bytes": now.bytes,
        "lag_bytes": replication.lag_bytes(pair),
    }  # fmt: skip


def _switch(given: argparse.Namespace, pair: Pair) -> dict[str, Any]:
    state = state_of(pair)
    _require(state, State.FOLLOWING, State.PAUSED)
    _refuse_if_any(obstacles.all_obstacles(pair, state))
    now = replication.progress(pair)
    if now.ready < now.tables:
        raise Failure(f"the copy is not complete: {now.text}")
    if state is State.FOLLOWING:
        # what can be waited for before anybody has to wait
        replication.wait_until_caught_up(pair, given.patience)
    else:
        replication.resume(pair)
    pause = switching.switch(pair, given.patience)
    options.log(
        f"The new database is open; nobody could write for {pause.seconds:.2f} s. Give the instances its address."
    )
    return {"paused_seconds": pause.seconds, "steps": pause.steps}


def _back(given: argparse.Namespace, pair: Pair) -> dict[str, Any]:
    state = state_of(pair)
    if state is State.FOLLOWING:
        return {"state": state.name}
    _require(state, State.PAUSED, State.SWITCHED)
    switching.back(pair, was_open=state is State.SWITCHED, lose_writes=given.lose_writes)
    state = state_of(pair)
    options.log(f"The old database takes writes again: give the instances its address. Now {state}.")
    return {"state": state.name}


def _finish(given: argparse.Namespace, pair: Pair) -> dict[str, Any]:
    _require(state_of(pair), State.SWITCHED, State.ENDED)
    replication.end(pair)
    switching.retire_old(pair)
    options.log("Nobody can connect to the old database any more. Take a base backup of the new server now.")
    return {"state": State.ENDED.name}


def _cancel(given: argparse.Namespace, pair: Pair) -> dict[str, Any]:
    _require(state_of(pair), State.NONE, State.FOLLOWING, State.PAUSED)
    switching.reopen_old(pair)
    replication.end(pair)
    options.log("The old database is as it was. The new one may be dropped, or be filled again by follow.")
    return {"state": State.NONE.name}


_COMMANDS: dict[str, Callable[[argparse.Namespace, Pair], dict[str, Any]]] = {
    "check": _check,
    "follow": _follow,
    "status": _status,
    "switch": _switch,
    "back": _back,
    "finish": _finish,
    "cancel": _cancel,
}
