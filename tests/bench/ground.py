"""Any number of movements, made by SQL as fast as the disk allows; the books hold."""

import asyncio
from pathlib import Path

import asyncpg

from erp_service.access.roles import Role
from erp_service.db import migrate as schema
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.support.company import as_of_tests
from tests.support.settings import settings_for
from tests.support.trail import seal_all
from tests.support.users import make_user

DATABASE = "bench"

# one user makes all requests, thousands a second: they are counted, as everywhere, and none is refused
_UNREFUSED = """
update company
set settings = settings || '{"requests_per_minute_per_user": 10000000, "requests_per_minute_per_key": 10000000}'
"""
_MASTERS = """
insert into items (sku, name, unit, description, reorder_point)
  select 'SKU-' || n, 'Item no. ' || n || case when n %% 5 = 0 then ', "größer"' else '' end, 'PCS', null, n %% 90
  from generate_series(1, %(items)s) n;
insert into locations (code, name, location_type)
  select 'L' || n, 'Location ' || n, 'WAREHOUSE' from generate_series(1, 7) n;
insert into stock_transactions (id, user_id) select uuidv7(), 1 from generate_series(1, %(documents)s);
"""
# The window function makes the running sums right, and the references are right by construction: triggers are off.
_MOVEMENTS = """
set session_replication_role = replica;
insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, unit_cost, value,
    on_hand_after, item_on_hand_after, value_after, occurred_at, reference_no, notes, metadata, user_id)
  select t.id, 1 + n %% %(lines)s, item, location, 'IN', quantity, cost, value,
    sum(quantity) over place, sum(quantity) over item, sum(value) over item,
    '2024-01-01'::timestamptz + n * interval '7 s', 'PO-' || n / 10,
    case when n %% 5 = 0 then 'brought by hand, no. ' || n end,
    jsonb_build_object('customer', (n %% 5000)::text, 'unit_price', cost::text), 1
  from (
    select n, 1 + n %% %(items)s as item, 1 + n %% 7 as location, (1 + n %% 1000) / 8.0 as quantity,
      (1 + n %% 300) * 0.25 as cost, round((1 + n %% 1000) / 8.0 * (1 + n %% 300) * 0.25, 4) as value
    from generate_series(0, %(last)s) n
  ) made join (select id, row_number() over (order by id) - 1 as at from stock_transactions) t
    on t.at = n / %(lines)s
  window place as (partition by item, location order by n), item as (partition by item order by n)
  order by n;
insert into stock_balances (item_id, location_id, on_hand, last_occurred_at)
  select item_id, location_id, sum(quantity), max(occurred_at) from stock_ledger group by 1, 2;
insert into stock_values (item_id, on_hand, value, last_cost)
  select item_id, sum(quantity), sum(value), 2.5 from stock_ledger group by 1;
set session_replication_role = default;
"""


async def made(
    cluster: Cluster,
    directory: Path,
    rows: int,
    *,
    database_name: str = DATABASE,
    items: int = 4000,
    documents: int = 1000,
) -> tuple[Settings, int]:
    """Makes the movements; returns the database and the id of an administrator."""
    await asyncio.to_thread(cluster.create_database, database_name)
    await schema.migrate(cluster.owner_url(database_name))
    await as_of_tests(cluster.owner_url(database_name))
    settings = settings_for(cluster, database_name, directory)
    database = Database(settings, name="erp bench")
    user_id = await make_user(database, Role.ADMIN)
    await database.close()
    sizes = {"last": rows - 1, "items": items, "documents": documents, "lines": -(-rows // documents)}
    connection = await asyncpg.connect(cluster.owner_url(database_name))
    try:
        await connection.execute(_UNREFUSED)
        await connection.execute(_MASTERS % sizes)
        indexes = await _without_indexes(connection)
        await connection.execute(_MOVEMENTS % sizes)
        for index in indexes:
            await connection.execute(index)
        # as it was posted long ago: else the first worker would seal it while something is measured
        await seal_all(settings)
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
    finally:
        await connection.close()
    return settings, user_id


async def _without_indexes(connection: asyncpg.Connection) -> list[str]:
    """Drops all indexes of the ledger but the primary key's; returns the statements that make them again, which is
    faster than to keep them up to date row by row."""
    await connection.execute("set maintenance_work_mem = '512MB'")
    await connection.execute("set work_mem = '256MB'")
    constraints = await connection.fetch("""
        select format('alter table stock_ledger drop constraint %I', conname) as drop,
          format('alter table stock_ledger add constraint %I %s', conname, pg_get_constraintdef(oid)) as create
        from pg_constraint where conrelid = 'stock_ledger'::regclass and contype = 'u'
    """)
    indexes = await connection.fetch("""
        select format('drop index %s', indexrelid::regclass) as drop, pg_get_indexdef(indexrelid) as create
        from pg_index where indrelid = 'stock_ledger'::regclass
          and not exists (select from pg_constraint where conindid = indexrelid)
    """)
    for index in (*constraints, *indexes):
        await connection.execute(index["drop"])
    return [index["create"] for index in (*constraints, *indexes)]
