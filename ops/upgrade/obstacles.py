"""What stands in the way of an upgrade, on either side: each is a sentence that says what to do."""

import json
from collections.abc import Iterator
from typing import Any

from .pair import NAME, Pair, State, ask, ask_json, elsewhere

_SLOTS, _WORKERS = 4, 4
"""What is used at once: a slot and a WAL sender of the old server, and a worker of the new one, for the changes and for
each of the tables that are being copied; Postgres copies two."""

_OLD = """
select json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'system', (select system_identifier::text from pg_control_system()),
  'superuser', (select rolsuper from pg_roles where rolname = current_user),
  'in_recovery', pg_is_in_recovery(),
  'wal_level', current_setting('wal_level'),
  'free_slots', current_setting('max_replication_slots')::int - (select count(*) from pg_replication_slots),
  'free_senders', current_setting('max_wal_senders')::int - (select count(*) from pg_stat_replication),
  'migration', (select version_num from alembic_version),
  'without_identity', (
    select coalesce(json_agg(class.oid::regclass::text order by 1), '[]') from pg_class class
    join pg_namespace namespace on namespace.oid = class.relnamespace
    where class.relkind = 'r' and class.relpersistence = 'p' and nspname not in ('pg_catalog', 'information_schema')
      and class.relreplident <> 'f' and not exists (
        select from pg_index where indrelid = class.oid
          and (indisreplident or (indisprimary and class.relreplident = 'd')))),
  'partitioned', (select coalesce(json_agg(oid::regclass::text), '[]') from pg_class where relkind = 'p'),
  'large_objects', (select count(*) from pg_largeobject_metadata),
  'prepared', (select count(*) from pg_prepared_xacts where database = current_database()),
  'others', (
    select coalesce(json_agg(database), '[]') from pg_replication_slots
    where slot_name = 'erp_upgrade' and database <> current_database()),
  'exempt', (
    select coalesce(json_agg(rolname), '[]') from pg_db_role_setting join pg_roles role on role.oid = setrole
    where exists (select from unnest(setconfig) entry where entry like 'default\\_transaction\\_read\\_only=%')));
"""
_NEW = """
select json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'system', (select system_identifier::text from pg_control_system()),
  'superuser', (select rolsuper from pg_roles where rolname = current_user),
  'in_recovery', pg_is_in_recovery(),
  'workers', least(current_setting('max_logical_replication_workers')::int,
    current_setting('max_worker_processes')::int - 2));
"""

# Triggers run for replicated rows only if they say so; what they did on the old database is replicated already.
_SHAPE = """
select json_build_object(
  'migration', (select version_num from alembic_version),
  'columns', (
    select coalesce(json_object_agg(attrelid::regclass || '.' || attname, format_type(atttypid, atttypmod)
      || case when attgenerated <> '' then ' generated' else '' end), '{}')
    from pg_attribute join pg_class class on class.oid = attrelid
    join pg_namespace namespace on namespace.oid = class.relnamespace
    where relkind = 'r' and attnum > 0 and not attisdropped and nspname not in ('pg_catalog', 'information_schema')),
  'sequences', (
    select coalesce(json_object_agg(format('%I.%I', schemaname, sequencename), data_type::text), '{}')
    from pg_sequences),
  'owners', (
    select coalesce(json_object_agg(class.oid::regclass, rolname), '{}') from pg_class class
    join pg_roles role on role.oid = relowner join pg_namespace namespace on namespace.oid = class.relnamespace
    where relkind = 'r' and nspname not in ('pg_catalog', 'information_schema')),
  'triggers', (
    select coalesce(json_agg(tgrelid::regclass || '.' || tgname order by 1), '[]') from pg_trigger
    where tgenabled in ('A', 'R') and not tgisinternal));
"""
_EXTRAS = """
with kept as (
  select oid from pg_namespace where nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
)
select coalesce(json_agg(thing order by thing), '[]') from (
  select 'the index ' || indexrelid::regclass || ' of ' || indrelid::regclass as thing
    from pg_index join pg_class class on class.oid = indexrelid where relnamespace in (select oid from kept)
  union all select 'the view ' || oid::regclass
    from pg_class where relkind in ('v', 'm') and relnamespace in (select oid from kept)
  union all select 'the function ' || oid::regprocedure from pg_proc where pronamespace in (select oid from kept)
  union all select 'the trigger ' || tgname || ' on ' || tgrelid::regclass from pg_trigger where not tgisinternal
  union all select 'the extension ' || extname from pg_extension where extname <> 'plpgsql'
  union all select 'the right of ' || coalesce(rolname, 'everybody') || ' to ' || lower(privilege_type) || ' '
    || class.oid::regclass
    from pg_class class cross join aclexplode(relacl) acl left join pg_roles role on role.oid = acl.grantee
    where relnamespace in (select oid from kept) and acl.grantee <> relowner and privilege_type <> 'MAINTAIN'
) things;
"""


def of_servers(pair: Pair) -> Iterator[str]:
    """What must be changed before the copy begins. Raises Failure if a server cannot be asked."""
    old = ask_json(pair.old, _OLD)
    new = ask_json(elsewhere(pair.new, "postgres"), _NEW)
    yield from _of_both(old, new)
    yield from _of_old(old)
    if new["workers"] < _WORKERS:
        yield "the new server's max_logical_replication_workers or max_worker_processes is below the default: raise it"


def _of_both(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    if old["system"] == new["system"]:
        yield "both addresses lead to the same server"
    if new["version"] < old["version"]:
        yield f"the new server is PostgreSQL {new['version']}, older than {old['version']}"
    for name, side in (("old", old), ("new", new)):
        if not side["superuser"]:
            yield f"the address of the {name} server must be a superuser's: roles and all tables are published"
        if side["in_recovery"]:
            yield f"the {name} server is a standby: give the address of the primary"


def _of_old(old: dict[str, Any]) -> Iterator[str]:
    if old["wal_level"] != "logical":
        yield (
            f"the old server's wal_level is {old['wal_level']}: alter system set wal_level = logical, then restart it"
            " (under Patroni: patronictl edit-config, then patronictl restart)"
        )
    if old["free_slots"] < _SLOTS or old["free_senders"] < _SLOTS:
        yield (
            f"the old server has {old['free_slots']} free replication slots and {old['free_senders']} free WAL senders;"
            f" {_SLOTS} of each are needed: raise max_replication_slots and max_wal_senders"
        )
    for database in old["others"]:
        yield f"the slot {NAME} is for the database {database} of the same server: finish or cancel that upgrade first"
    for table in old["without_identity"]:
        yield f"{table} has no primary key or other replica identity: once published, updates of it would fail"
    for table in old["partitioned"]:
        yield f"{table} is partitioned, which this tool does not know"
    if old["large_objects"]:
        yield f"there are {old['large_objects']} large objects, which are not replicated"
    if old["prepared"]:
        yield f"{old['prepared']} transactions are prepared: commit them or roll them back"
    for role in old["exempt"]:
        yield f"the role {role} has a default_transaction_read_only of its own, so it could not be paused: reset it"


def of_schemas(pair: Pair) -> Iterator[str]:
    """Differences between the two databases that replication, or the service, would trip over. Raises Failure."""
    old, new = ask_json(pair.old, _SHAPE), ask_json(pair.new, _SHAPE)
    # none once the new database was emptied, until this row is copied as well
    if new["migration"] not in (None, old["migration"]):
        yield (
            f"the old database is at the migration {old['migration']}, the new one at {new['migration']}: run erp"
            " migrate of the release that runs, against the one that is behind"
        )
        return
    for what in ("columns", "sequences"):
        for name, kind in old[what].items():
            if new[what].get(name) != kind:
                yield f"{name} is {kind} in the old database and {new[what].get(name) or 'missing'} in the new one"
    for table, owner in old["owners"].items():
        if table in new["owners"] and new["owners"][table] != owner:
            yield f"{table} belongs to {owner} in the old database, to {new['owners'][table]} in the new one: --owner"
            break
    for trigger in new["triggers"]:
        yield f"the trigger {trigger} would run again for replicated rows: alter table ... enable trigger"


def left_behind(pair: Pair) -> list[str]:
    """What only the old database has: it works without, but whoever made it by hand must make it again."""
    here = set(json.loads(ask(pair.new, _EXTRAS)))
    return [thing for thing in json.loads(ask(pair.old, _EXTRAS)) if thing not in here]


def all_obstacles(pair: Pair, state: State) -> list[str]:
    """Raises Failure."""
    found = list(of_servers(pair))
    if state is not State.NONE:
        # its own slot and sender are in use
        found = [text for text in found if "free replication slots" not in text]
        found += of_schemas(pair)
        if ask(pair.old, _SLOT_LOST, name=NAME) != "f":
            found.append(
                f"the old server has lost the replication slot {NAME} (by a failover, or max_slot_wal_keep_size):"
                " cancel, and follow again"
            )
    return found


_SLOT_LOST = """
select not exists (select from pg_replication_slots where slot_name = :'name' and wal_status is distinct from 'lost');
"""
