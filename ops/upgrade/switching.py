"""The switch, and the way back. Only one of the two databases takes writes at a time, and for seconds neither."""

import contextlib
import json
import time
from collections.abc import Iterator

from ops.backups import options
from ops.backups.programs import Failure, Server

from . import replication
from .comparison import differences
from .pair import Pair, ask, ask_json, elsewhere
from .preparation import CLOSE, mark

_READ_ONLY = 'alter database :"name" set default_transaction_read_only = on;'
_READ_WRITE = 'alter database :"name" reset default_transaction_read_only;'
_EXCEPT_US = 'alter role current_user in database :"name" reset default_transaction_read_only;'
_TERMINATE = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend';
"""
_TERMINATE_OLDER = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
  and backend_start <= :'at'::timestamptz;
"""
_NOW = "select clock_timestamp();"
_SETVALS = """
select coalesce(string_agg(format('select setval(%L, %s, %L);', format('%I.%I', schemaname, sequencename),
    coalesce(last_value, start_value), last_value is not null), E'\n'), '') from pg_sequences;
"""
_WRITES = """
select coalesce(json_object_agg(relid::regclass, n_tup_ins + n_tup_upd + n_tup_del), '{}') from pg_stat_user_tables;
"""
_REMEMBER = "comment on subscription erp_upgrade is :'writes';"
_REMEMBERED = "select obj_description(oid, 'pg_subscription') from pg_subscription where subname = 'erp_upgrade';"
_SECONDS = 30.0
_BEGINNING_SECONDS = 0.2


class Pause:
    """What each step of the pause took, in seconds."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._began = time.monotonic()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.steps[name] = round(time.monotonic() - began, 3)
        options.log(f"{self.steps[name]:8.2f} s  {name}")

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)


def switch(pair: Pair, patience: float) -> Pause:
    """From the first write that the old database refuses to the first that the new one accepts.

    Raises Failure; the old database takes writes again then."""
    pause = Pause()
    may_be_open = False
    try:
        with pause.step("the old database refuses writes, and its sessions are ended"):
            _refuse_writes(pair.old)
        with pause.step("the new one has everything"):
            replication.wait_until_caught_up(pair, patience)
            replication.stop(pair)
        with pause.step("sequences"):
            copy_sequences(pair)
        with pause.step("compared"):
            if wrong := differences(pair):
                raise Failure("the new database is not what the old one is: " + "; ".join(wrong))
        with pause.step("the new one is open"):
            may_be_open = True
            _open_new(pair)
    except BaseException:
        if may_be_open:
            _return_to_old(pair)
        else:
            # the new one is closed, also if it cannot be reached just now
            reopen_old(pair)
            with contextlib.suppress(Failure):
                replication.resume(pair)
        options.log("the switch has failed: the old database takes writes again")
        raise
    return pause


def _refuse_writes(server: Server) -> None:
    """Readers may connect again at once. Nobody who does can write: no role has another default (obstacles.py)."""
    ask(server, _READ_ONLY, name=server.database)
    at, since = ask(server, _NOW), time.monotonic()
    # a session that began before may have read its settings already and not be shown yet
    while ask(server, _TERMINATE_OLDER, at=at) != "0" or time.monotonic() - since < _BEGINNING_SECONDS:
        if time.monotonic() - since > _SECONDS:
            raise Failure("sessions of the old database do not end: pg_stat_activity shows them")
        time.sleep(0.02)


def copy_sequences(pair: Pair) -> None:
    """Raises Failure."""
    ask(pair.new, ask(pair.old, _SETVALS))


def _open_new(pair: Pair) -> None:
    """Whoever was connected to read, reconnects and may write."""
    name = pair.new.database
    ask(pair.new, _REMEMBER, writes=_writes(pair))
    ask(pair.new, _READ_WRITE + _EXCEPT_US + 'comment on database :"name" is null;', name=name)
    ask(pair.new, _TERMINATE)


def _writes(pair: Pair) -> str:
    """Rows ever written, by table, as the server counts them: sessions report when they end."""
    return json.dumps(ask_json(pair.new, _WRITES))


def _close_new(pair: Pair) -> None:
    name = pair.new.database
    ask(pair.new, CLOSE, name=name, mark=mark(pair))
    ask(pair.new, _TERMINATE)


def _return_to_old(pair: Pair) -> None:
    """The new one is closed before the old one opens."""
    _close_new(pair)
    replication.resume(pair)
    reopen_old(pair)


def back(pair: Pair, *, was_open: bool, lose_writes: bool) -> None:
    """The old database takes writes again, and the new one follows it, if nobody has written to the new one.

    Else raises Failure; with `lose_writes`, what was written since the switch is given up, and the replication ends."""
    name = pair.new.database
    ask(pair.new, _READ_ONLY, name=name)
    ask(pair.new, _TERMINATE)
    written = _written_since(pair) if was_open else ""
    if not written:
        _return_to_old(pair)
        return
    if not lose_writes:
        ask(pair.new, _READ_WRITE, name=name)
        ask(pair.new, _TERMINATE)
        raise Failure(
            f"the new database has been written to since the switch, which going back would lose: {written} (rows"
            " inserted, changed or deleted, of failed transactions too). --lose-writes does it nevertheless"
        )
    _close_new(pair)
    replication.end(pair)
    reopen_old(pair)


def _written_since(pair: Pair) -> str:
    """Empty if nothing was."""
    before, now = json.loads(ask(pair.new, _REMEMBERED)), json.loads(_writes(pair))
    more = {table: rows - before.get(table, 0) for table, rows in now.items() if rows != before.get(table, 0)}
    return ", ".join(f"{table} {rows:,}" for table, rows in more.items())


def reopen_old(pair: Pair) -> None:
    """Raises Failure."""
    ask(pair.old, _READ_WRITE, name=pair.old.database)
    ask(pair.old, _TERMINATE)


def retire_old(pair: Pair) -> None:
    """Nobody can connect to the old database any more; its data stay. Raises Failure."""
    server, name = elsewhere(pair.old, "postgres"), pair.old.database
    ask(server, 'alter database :"name" with allow_connections false;', name=name)
    ask(server, "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = :'name';", name=name)
