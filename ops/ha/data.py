"""The data directory, from the plain profile to Patroni's and back.

Each profile has a directory of its own in the volume, and a change of profiles renames it. So a server of the other
profile that somebody starts by mistake finds nothing: two containers in one directory would destroy it, since Postgres'
own lock does not work between containers."""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# What a server of the plain profile has from its image and from ops/postgres/init
_PLAIN_HBA = """\
local all all trust
host replication erp_replica,erp_backup all scram-sha-256
host all all all scram-sha-256
"""
_REWIND_NEEDS = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
)


class Refused(Exception):
    """It would not be safe; the message says what to do."""


def take_over(plain: Path, data: Path, authentication: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """As soon as the server of the plain profile has stopped. Does nothing if there is no data of it. Raises
    Refused."""
    if not (plain / "PG_VERSION").exists():
        return
    if not _stopped(plain):
        say(f"waiting for `db`, which runs on {plain}, to be stopped; if it crashed, start it first")
        while not _stopped(plain):
            time.sleep(0.1)
    _single_user(plain, *_roles(authentication))
    plain.rename(data)
    say(f"took over {plain}")


def give_back(data: Path, plain: Path) -> None:
    """Raises Refused."""
    if not (data / "PG_VERSION").exists():
        raise Refused(f"there is no data in {data}")
    if (plain / "PG_VERSION").exists():
        raise Refused(f"there is data in {plain} already: if it is none that you need, remove it")
    if not _stopped(data):
        raise Refused(f"the server of {data} runs, or it crashed: stop it, or let it recover and then stop it")
    if (data / "standby.signal").exists():
        raise Refused("this node was a standby: hand it the lead first (ops/ha/switchover)")
    # Patroni's own postgresql.conf waits for standbys that are gone
    if (data / "postgresql.base.conf").exists():
        (data / "postgresql.base.conf").rename(data / "postgresql.conf")
    (data / "pg_hba.conf").write_text(_PLAIN_HBA)
    (data / "patroni.dynamic.json").unlink(missing_ok=True)
    # the slots of the standbys would keep WAL for nobody
    _single_user(
        data,
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
        " where slot_type = 'physical' and slot_name not in ('erp_backup', 'erp_replica')",
    )
    data.rename(plain)


def _stopped(data: Path) -> bool:
    # A server in another container cannot be seen, but it has this file as long as it runs; one that crashed leaves it
    return not (data / "postmaster.pid").exists()


def _roles(authentication: Mapping[str, Any]) -> list[str]:
    """By which standbys follow and rewind, and a right by which readers of a standby see which timeline it follows: an
    older stack, or a plain one, may not have them."""
    is_there = "if exists (select from pg_roles where rolname = 'erp_reader')"
    statements = [f"do $$begin {is_there} then grant pg_read_all_stats to erp_reader; end if; end$$"]
    for kind, attributes in (("replication", "login replication"), ("rewind", "login")):
        name, password = authentication[kind]["username"], authentication[kind]["password"].replace("'", "''")
        missing = f"if not exists (select from pg_roles where rolname = '{name}') then create role {name}; end if;"
        statements += [f"do $$begin {missing} end$$", f"alter role {name} {attributes} password '{password}'"]
    rewind = authentication["rewind"]["username"]
    return [*statements, *(f"grant execute on function {function} to {rewind}" for function in _REWIND_NEEDS)]


def _single_user(data: Path, *statements: str) -> None:
    """Runs each in the server's single-user mode, which no client can reach. Raises Refused if one fails."""
    # the log may not show a statement, because there are passwords in them; and nothing may wait for a standby
    settings = ("exit_on_error=on", "log_min_error_statement=panic", "synchronous_standby_names=")
    command = ["postgres", "--single", "-D", str(data), *(f"-c{setting}" for setting in settings), "postgres"]
    # each line is a statement
    lines = "".join(f"{statement}\n" for statement in statements)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{data} could not be prepared: {done.stderr}")
