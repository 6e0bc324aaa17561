"""Logical replication from the old database to the new one: begun, watched, ended."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from ops.backups import options
from ops.backups.programs import Failure, system_identifier

from .pair import NAME, Pair, ask, ask_json

_POLL_SECONDS = 0.1
_REPORT_SECONDS, _LAG_REPORT_SECONDS = 2.0, 10.0

_PUBLISH = """
select format('create publication %I for all tables', :'name')
where not exists (select from pg_publication where pubname = :'name') \\gexec
"""
_DROP_SLOTS = """
select pg_drop_replication_slot(slot_name) from pg_replication_slots
where slot_type = 'logical' and database = current_database() and not active
  and (slot_name = :'name' or slot_name ~ ('^pg_[0-9]+_sync_[0-9]+_' || :'system' || '$'));
"""
_SLOT_EXISTS = "select exists (select from pg_replication_slots where slot_name = :'name');"
# An error stops it, and status shows that; else it would be tried again every few seconds, for ever.
_SUBSCRIBE = """
create subscription :"name" connection :'source' publication :"name"
  with (slot_name = :"name", streaming = on, disable_on_error = on);
"""
_LEAVE = """
alter subscription :"name" disable;
alter subscription :"name" set (slot_name = none);
drop subscription :"name";
"""
_SUBSCRIBED = "select exists (select from pg_subscription where subname = :'name');"
_UNPUBLISH = 'drop publication if exists :"name";'
_PROGRESS = """
select json_build_object(
  'enabled', (select subenabled from pg_subscription where subname = 'erp_upgrade'),
  'working', exists (select from pg_stat_subscription where subname = 'erp_upgrade' and pid is not null),
  'tables', (select count(*) from pg_subscription_rel),
  'ready', (select count(*) from pg_subscription_rel where srsubstate = 'r'),
  'copying', (
    select coalesce(json_object_agg(relid::regclass, tuples_processed), '{}') from pg_stat_progress_copy
    where datname = current_database()),
  'bytes', pg_database_size(current_database()),
  'errors', (
    select apply_error_count + sync_error_count from pg_stat_subscription_stats where subname = 'erp_upgrade'));
"""
_SENT = """
select coalesce((select confirmed_flush_lsn >= :'position'::pg_lsn from pg_replication_slots where slot_name = :'name'),
  false);
"""
_LAG = """
select coalesce((select pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
  from pg_replication_slots where slot_name = :'name'), -1);
"""
# A record of our own: the slot will pass it however quiet the server is. Its transaction commits after all before it.
_MARK = "select pg_logical_emit_message(true, :'name', '');"


class Progress(NamedTuple):
    """Of the copy: tables, those that are done, rows so far of those being copied, and the new database's size."""

    enabled: bool
    working: bool
    tables: int
    ready: int
    copying: Mapping[str, int]
    bytes: int
    errors: int

    @property
    def text(self) -> str:
        now = ", ".join(f"{table} {rows:,} rows" for table, rows in self.copying.items())
        return f"{self.ready} of {self.tables} tables, {self.bytes / 1e6:,.0f} MB" + (f"; copying {now}" if now else "")


def begin(pair: Pair) -> None:
    """Publishes all tables and subscribes to them, which begins the copy. Raises Failure."""
    ask(pair.old, _PUBLISH, name=NAME)
    # of an attempt that was killed between the slot and the subscription
    ask(pair.old, _DROP_SLOTS, name=NAME, system=system_identifier(pair.new))
    ask(pair.new, _SUBSCRIBE, name=NAME, source=pair.source)


def progress(pair: Pair) -> Progress:
    """Raises Failure."""
    return Progress(**ask_json(pair.new, _PROGRESS))


def lag_bytes(pair: Pair) -> int:
    """WAL of the old server that the new one has not confirmed; -1 if the slot is gone. Raises Failure."""
    return int(ask(pair.old, _LAG, name=NAME))


def wait_until_copied(pair: Pair) -> Progress:
    """As long as it takes. Raises Failure if it has stopped."""
    reported, last = "", 0.0
    while True:
        now = progress(pair)
        _require_working(now)
        if now.ready == now.tables > 0:
            return now
        if now.text != reported and time.monotonic() - last > _REPORT_SECONDS:
            reported, last = now.text, time.monotonic()
            options.log(f"copied {now.text}")
        time.sleep(_POLL_SECONDS)


def wait_until_caught_up(pair: Pair, seconds: float) -> float:
    """Returns, with the seconds it took, when the new database has durably all that was committed on the old one before
    the call. Raises Failure after `seconds`."""
    began = time.monotonic()
    position = ask(pair.old, _MARK, name=NAME)
    reported = began
    while ask(pair.old, _SENT, name=NAME, position=position) == "f":
        _require_working(progress(pair))
        if time.monotonic() - reported > _LAG_REPORT_SECONDS:
            reported = time.monotonic()
            options.log(f"{lag_bytes(pair) / 1e6:,.1f} MB of changes behind")
        if time.monotonic() - began > seconds:
            raise Failure(
                f"the new database was {lag_bytes(pair):,} bytes behind after {seconds:g} s: try again when the old one"
                " is less busy, or give it longer with --patience"
            )
        time.sleep(_POLL_SECONDS / 5)
    return time.monotonic() - began


def _require_working(now: Progress) -> None:
    if not now.enabled:
        raise Failure(
            f"the replication has stopped after {now.errors} errors: the log of the new server says why. Mend it, then"
            f" alter subscription {NAME} enable, or cancel and follow again"
        )


def stop(pair: Pair) -> None:
    """Nothing flows any more when this returns; `resume` goes on where it stopped. Raises Failure."""
    ask(pair.new, 'alter subscription :"name" disable;', name=NAME)
    while progress(pair).working:
        time.sleep(_POLL_SECONDS / 5)


def resume(pair: Pair) -> None:
    """Raises Failure."""
    ask(pair.new, 'alter subscription :"name" enable;', name=NAME)


def end(pair: Pair) -> None:
    """Removes subscription, slots and publication, as far as they are there. Raises Failure."""
    end_on_new(pair)
    system = system_identifier(pair.new)
    deadline = time.monotonic() + 10
    while True:
        ask(pair.old, _DROP_SLOTS, name=NAME, system=system)
        if ask(pair.old, _SLOT_EXISTS, name=NAME) == "f":
            break
        if time.monotonic() > deadline:
            raise Failure(f"the old server's replication slot {NAME} is in use by another process: end that one first")
        time.sleep(_POLL_SECONDS)
    ask(pair.old, _UNPUBLISH, name=NAME)


def end_on_new(pair: Pair) -> None:
    """The new side alone, which does not need the old server. Raises Failure."""
    if ask(pair.new, _SUBSCRIBED, name=NAME) == "t":
        ask(pair.new, _LEAVE, name=NAME)
