"""The two databases, what is asked of them by psql, and how far the upgrade is, which their catalogues say."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from ops.backups.programs import Failure, Server, command, query, server_of

NAME = "erp_upgrade"
"""Of the publication, the subscription and the replication slot."""

# The old database refuses writes by a setting that every session gets; ours are the exception.
_OPTIONS = "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 -c timezone=UTC"
_VARIABLE = "ERP_UPGRADE_"


class Pair(NamedTuple):
    """`old` and `new` are superusers' connections; `owner` is the address with which `erp migrate` makes the schema of
    the new database; `source` is the old database as the new server reaches it, in libpq's key=value form."""

    old: Server
    new: Server
    owner: str
    source: str


class State(StrEnum):
    """Where the upgrade stands. Only PAUSED keeps writers waiting."""

    NONE = "not begun"
    FOLLOWING = "the new database follows the old one"
    PAUSED = "the old database refuses writes, the new one is not open yet"
    SWITCHED = "the new database is open, the old one only reads"
    ENDED = "the new database is open, and nothing connects the two any more"


def connected_as(address: str, programs: Path | None) -> Server:
    """Raises Failure."""
    server = server_of(address, programs)
    return Server({"PGAPPNAME": "erp upgrade", **server.variables, "PGOPTIONS": _OPTIONS}, programs)


def elsewhere(server: Server, database: str) -> Server:
    """The same server, another database."""
    return server._replace(variables={**server.variables, "PGDATABASE": database})


def ask(server: Server, sql: str, **values: str) -> str:
    """What psql prints for the statements. `:'name'` and `:"name"` in them stand for a value, quoted by psql, which
    gets it by its environment: a command line is visible to every user. Raises Failure."""
    variables = {f"{_VARIABLE}{name.upper()}": value for name, value in values.items()}
    known = "".join(f"\\getenv {name} {_VARIABLE}{name.upper()}\n" for name in values)
    return query(server._replace(variables={**server.variables, **variables}), known + sql)


def ask_json(server: Server, sql: str, **values: str) -> Any:
    """The one JSON value that the statement returns. Raises Failure."""
    return json.loads(ask(server, sql, **values))


@contextlib.contextmanager
def alone(pair: Pair) -> Iterator[None]:
    """No other run of this tool that changes anything, on whichever host. Raises Failure if there is one.

    The lock's session is in a database of the new server whose sessions nobody ends."""
    server = elsewhere(pair.new, "postgres")
    with subprocess.Popen(
        command(server, "psql", "-XqAt"),
        env=server.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as psql:
        if psql.stdin is None or psql.stdout is None:
            raise AssertionError
        psql.stdin.write(_LOCK)
        psql.stdin.flush()
        if (held := psql.stdout.readline().strip()) == "t":
            yield
        psql.stdin.close()
    if not held:
        raise Failure("the new server does not answer")
    if held == "f":
        raise Failure("another ops/upgrade-postgres is at work on these servers: wait until it has ended")


_LOCK = "select pg_try_advisory_lock(hashtext('erp_upgrade'));\n"
_OLD = """
select json_build_object(
  'read_only', exists (
    select from pg_db_role_setting setting join pg_database database on database.oid = setting.setdatabase
    where datname = current_database() and setrole = 0 and 'default_transaction_read_only=on' = any(setconfig)),
  'published', exists (select from pg_publication where pubname = 'erp_upgrade'));
"""
_NEW = """
select json_build_object(
  'read_only', exists (
    select from pg_db_role_setting setting join pg_database database on database.oid = setting.setdatabase
    where datname = current_database() and setrole = 0 and 'default_transaction_read_only=on' = any(setconfig)),
  'subscribed', exists (select from pg_subscription where subname = 'erp_upgrade'
    and subdbid = (select oid from pg_database where datname = current_database())));
"""
_DATABASE_EXISTS = "select exists (select from pg_database where datname = :'name');"


def state_of(pair: Pair) -> State:
    """Raises Failure, also if the two databases contradict each other."""
    old = ask_json(pair.old, _OLD)
    exists = ask(elsewhere(pair.new, "postgres"), _DATABASE_EXISTS, name=pair.new.database) == "t"
    new = ask_json(pair.new, _NEW) if exists else {"subscribed": False, "read_only": False}
    if not new["subscribed"]:
        if not old["read_only"] or new["read_only"]:
            return State.NONE
        if exists:
            return State.ENDED
        raise Failure("the old database refuses writes, and there is no new one: is the new address the right one?")
    if new["read_only"]:
        return State.PAUSED if old["read_only"] else State.FOLLOWING
    if old["read_only"]:
        return State.SWITCHED
    raise Failure(
        "both databases take writes, which this tool never does: somebody has changed default_transaction_read_only of"
        " one of them. Set it to on for the one that must not be written to, then run this again"
    )
