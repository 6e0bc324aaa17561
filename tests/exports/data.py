"""The data that exports are made of."""

import asyncpg

# one cell each: texts that CSV, COPY's text format, spreadsheets and JSON treat in their own ways
NASTY = [
    "plain",
    "comma, and more",
    'quote " and ""',
    "two\nlines",
    "carriage\rreturn and\r\nboth",
    "00123",
    "ünï çödé 木",
    "emoji 🧾👩‍🔧",
    "back\\slash \\n \\N",
    "\\.",
    "one\n\\.\ntwo",
    "",
    " blanks around ",
    "tab\tin it",
    "=1+1",
    "+1",
    "@sum",
    "-2",
    "null",
    "NULL",
    "'",
    "$1 and {} and %s :name",
    "\u0001\u0002\u007f",
    "\u2028\ufeff",
]


async def fill(owner: asyncpg.Connection, user_id: int, *, movements: int = 300) -> None:
    """Every dataset has rows, and every text column every nasty value at least once."""
    many = max(len(NASTY), 30)
    words = [NASTY[n % len(NASTY)] for n in range(many)]
    await owner.execute(
        "insert into items"
        " (sku, name, unit, barcode, external_id, units, metadata, description, reorder_point, deleted_at)"
        " select n || '-' || word, word, word, n || word, n || word,"
        " jsonb_build_array(jsonb_build_object('unit', word)), jsonb_build_object(word, word), nullif(word, 'plain'),"
        " n / 8.0, case when n = 30 then now() end"
        " from unnest($1::text[]) with ordinality as w (word, n)",
        words,
    )
    await owner.execute(
        "insert into locations (code, name, location_type, address, external_id, metadata)"
        " select n || '-' || word, word, 'WAREHOUSE', nullif(word, 'plain'), n || word, jsonb_build_object(word, word)"
        " from unnest($1::text[]) with ordinality as w (word, n)",
        words,
    )
    await owner.execute("update locations set parent_id = 1 where id > 5")
    await owner.execute("insert into stock_transactions (id, user_id) select gen_random_uuid(), $1", user_id)
    await owner.execute(
        "insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value, unit_cost,"
        " on_hand_after, item_on_hand_after, value_after, occurred_at, reference_no, notes, reason, metadata, user_id)"
        " select t.id, n, 1 + n % $3, 1 + n % 7, 'ADJUSTMENT', (n - 40) / 64.0, 999999999.9999 - n,"
        " case when n % 3 > 0 then n * 1.25 end, n, n, n,"
        " '2020-02-29 23:59:59.000001+00'::timestamptz + n * interval '1 h',"
        " ($4::text[])[1 + n % $3], nullif(($4::text[])[1 + n % $3], 'plain'), null,"
        " jsonb_build_object('note', ($4::text[])[1 + n % $3], 'n', n::text), $1"
        " from generate_series(1, $2::bigint) n, stock_transactions t",
        user_id,
        movements,
        many,
        words,
    )
    await owner.execute(
        "insert into stock_balances (item_id, location_id, on_hand) select n, 1 + (n + more) % 7, n % 5 + more"
        " from generate_series(1, $1::bigint) n, generate_series(0, 2) more",
        many,
    )
    await owner.execute(
        "insert into stock_reservations (id, item_id, location_id, quantity, original_quantity, status, reference,"
        " expires_at, user_id, ended_at)"
        " select gen_random_uuid(), n, 1 + n % 7, case when n % 4 = 3 then 0 else n / 8.0 end, n,"
        " (array['ACTIVE', 'RELEASED', 'EXPIRED', 'USED'])[1 + n % 4], word,"
        " now() + (n - 20) * interval '1 day', nullif($1, n), case when n % 4 > 0 then now() end"
        " from unnest($2::text[]) with ordinality as w (word, n)",
        user_id,
        words,
    )
    await owner.execute(
        "with counts as ("
        "   insert into stock_counts (id, location_id, reference_no, user_id, last_entry_id)"
        "   select gen_random_uuid(), 1 + n % 7, word, nullif($1, n), 1"
        "   from unnest($2::text[]) with ordinality w (word, n)"
        "   returning id, location_id"
        " ) insert into stock_count_lines (count_id, item_id, counted, expected, counted_at, user_id)"
        " select c.id, n, n / 8.0, n / 3.0, now(), $1 from counts c join generate_series(1, $3::bigint) n"
        " on n % 7 = c.location_id % 7",
        user_id,
        words,
        many,
    )
    await owner.execute(
        "insert into stock_values (item_id, on_hand, value, last_cost)"
        " select item_id, sum(on_hand), sum(on_hand) * 1.1 / 3, 1 / 3.0 from stock_balances group by item_id"
    )
    await owner.execute(
        "insert into audit_log (user_id, action, entity, entity_id, before, after, reason, request_id, address)"
        " select nullif($1, n), 'item.changed', 'item', n::text, null, jsonb_build_object('name', word), word, word,"
        " null"
        " from unnest($2::text[]) with ordinality as w (word, n)",
        user_id,
        words,
    )


async def many_items(owner: asyncpg.Connection, count: int = 60_000) -> None:
    """By default more rows than the buffers between Postgres and the file can hold."""
    await owner.execute(
        "insert into items (sku, name, unit, description)"
        " select 'SKU-' || n, 'Item ' || n, 'PCS', repeat('x', 150) from generate_series(1, $1::bigint) n",
        count,
    )


async def copies(owner: asyncpg.Connection) -> int:
    """The number of connections of exports to this database."""
    return await owner.fetchval(  # type: ignore[no-any-return]
        "select count(*) from pg_stat_activity where application_name = 'erp export' and datname = current_database()"
    )
