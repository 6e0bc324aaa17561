-- The peer `pgbench`: the effect of one receipt with an Idempotency-Key, by Postgres and its own C client alone.
--
-- What the service writes and must look at, in one transaction and in prepared statements: the lock on the key, the
-- look-up of the key, value and balance, the document with its ledger entry, the audit entry, the recorded answer. The rows,
-- their sizes, indexes, triggers and foreign keys are those of the service. It reads and checks no JSON, has no token,
-- does not lock item and location, and computes no average: a bound, and not something that anybody could run.
\set item random(:first, :last)
\set location 1 + mod(:item - 1, 7)
\set key random(1, 9000000000000000000)
begin;
select pg_try_advisory_xact_lock(hashtextextended(cast(cast(:key as bigint) as text), 1));
select digest, status, headers, body from idempotency
  where user_id = 1 and key = cast(cast(:key as bigint) as text) and created_at > now() - interval '24 hours';
select on_hand, value, last_cost from stock_values where item_id = :item for update;
select on_hand, reserved, allows_negative from stock_balances
  where item_id = :item and location_id = :location for update;
with balance as (
  update stock_balances set on_hand = on_hand + 1, last_occurred_at = now()
  where item_id = :item and location_id = :location returning on_hand
), worth as (
  update stock_values set on_hand = on_hand + 1, value = value + 2.5 where item_id = :item returning on_hand, value
), document as (
  insert into stock_transactions (id, user_id) values (gen_random_uuid(), 1) returning id
)
insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value, unit_cost,
    on_hand_after, item_on_hand_after, value_after, occurred_at, user_id)
  select document.id, 1, :item, :location, 'IN', 1, 2.5, 2.5, balance.on_hand, worth.on_hand, worth.value, now(), 1
  from balance, worth, document
  returning id, recorded_at;
insert into audit_log (user_id, action, entity, entity_id, after, request_id, address)
  values (1, 'stock.posted', 'stock', cast(gen_random_uuid() as text),
    '{"reverses": null, "entries": 1, "first": [{"transaction_type": "IN", "sku": "SKU-1", "location": "L1", "quantity": "1", "value": "2.5"}]}',
    cast(cast(:key as bigint) as text), '127.0.0.1');
insert into idempotency (user_id, key, digest, status, headers, body)
  values (1, cast(cast(:key as bigint) as text), sha256('a receipt'), 201,
    '{"content-type": "application/json", "location": "/api/v1/inventory/stock/transactions/00000000-0000-0000-0000-000000000000"}',
    cast(rpad('the ledger entry', 500, '.') as bytea));
commit;
