"""One moving average per item for the whole company; what reservations, packs, and dates in closed periods need.

The value of an item goes from its balances to a row of its own (stock_values). What each was worth in sum, it is worth
afterwards: the same transaction compares both, item by item, and gives up otherwise. Only where stock below zero at one
location and stock at another left an item with a value that no average gives (nothing on hand that is worth something,
or a value of the other sign) a settlement is posted, which the ledger then shows.

The version before computes values by location, so nothing that it posts could be right any more: until it is replaced,
its postings are told to try again (the trigger stock_ledger_posted_by_item; everything else of it works, reading too).
Whoever retries is served by the first new instance. The columns `value` and `last_average` of stock_balances stay for
that version to read; nothing writes them any more."""

from alembic import op

from erp_service.db.migrate import script

revision = "0017"
down_revision = "0016"

# The loop is that of migration 0015, which says why.
LOCKS = """
do $body$
declare
  deadline constant timestamptz := clock_timestamp() + interval '3 seconds';
begin
  loop
    begin
      lock table items in access exclusive mode;
      lock table locations, stock_transactions, stock_ledger, stock_balances in access exclusive mode nowait;
      exit;
    exception when lock_not_available then
      if clock_timestamp() > deadline then
        raise;
      end if;
    end;
    perform pg_sleep(0.02);
  end loop;
end $body$;
"""

# Nothing here rewrites or reads the ledger: columns without a default, a type without a limit. There are few
# constraints, since Postgres reads the text of each anew for every statement, which costs a posting 5 microseconds
# apiece: what the form of an entry must be is a proof of `erp verify`.
COLUMNS = """
alter table items
  add column decimals smallint not null default 6,
  add column units jsonb not null default '[]',
  add column barcode text collate "C",
  add column external_id text collate "C",
  add column metadata jsonb not null default '{}',
  add constraint items_decimals_known check (decimals between 0 and 6),
  add constraint items_units_array check (jsonb_typeof(units) = 'array'),
  add constraint items_metadata_object check (jsonb_typeof(metadata) = 'object');
create unique index items_barcode_key on items (barcode) where deleted_at is null;
create unique index items_external_id_key on items (external_id) where deleted_at is null;

alter table locations
  add column external_id text collate "C",
  add column metadata jsonb not null default '{}',
  -- moments before it were judged by other rules: negative stock was allowed, or nobody looked back
  add column history_from timestamptz default now(),
  add constraint locations_metadata_object check (jsonb_typeof(metadata) = 'object');
alter table locations alter column history_from drop default;
create unique index locations_external_id_key on locations (external_id) where deleted_at is null;

alter table stock_transactions drop constraint stock_transactions_reverses_key;
create index stock_transactions_reverses_idx on stock_transactions (reverses) where reverses is not null;

alter table stock_ledger
  alter column location_id drop not null,
  alter column on_hand_after drop not null,
  alter column value_after drop not null,
  alter column unit_cost type numeric,
  add column item_on_hand_after numeric(18,6),
  add column origin text,
  add column reverses_id bigint,
  add column not_covered numeric(18,4);
create index stock_ledger_reverses_id_idx on stock_ledger (reverses_id) where reverses_id is not null;

alter table stock_balances
  drop constraint stock_balances_nothing_is_worth_nothing,
  drop constraint stock_balances_value_not_negative,
  drop constraint stock_balances_numbers,
  add column reserved numeric(18,6) not null default 0,
  add column last_occurred_at timestamptz,
  add constraint stock_balances_reserved check (
    on_hand <> 'NaN' and reserved >= 0 and reserved <> 'NaN' and (reserved <= on_hand or allows_negative)
  );
"""

# The last cost is that of the last entry that stated one or had a value; an IN at zero without a cost was a guess of
# the version before, and says nothing.
VALUES = """
create table stock_values (
  item_id bigint not null,
  on_hand numeric(18,6) not null default 0,
  value numeric(18,4) not null default 0,
  last_cost numeric(28,10),
  constraint stock_values_pkey primary key (item_id),
  constraint stock_values_item_id_fkey foreign key (item_id) references items (id),
  constraint stock_values_sound check (
    (on_hand > 0 and value >= 0 or on_hand = 0 and value = 0 or on_hand < 0 and value <= 0)
    and on_hand <> 'NaN' and value <> 'NaN' and last_cost >= 0 and last_cost <> 'NaN'
  )
) with (fillfactor = 50);

create temporary table values_before on commit drop as
  select item_id, sum(on_hand) as on_hand, sum(value) as value, max(last_average) as average
  from stock_balances group by item_id;

create temporary table settled on commit drop as
  select b.item_id, b.on_hand, b.value,
    coalesce(last.unit_cost, round(last.value / last.quantity, 10), nullif(b.average, 0)) as last_cost,
    case
      when b.on_hand = 0 then 0
      when b.on_hand > 0 and b.value >= 0 or b.on_hand < 0 and b.value <= 0 then b.value
      else round(b.on_hand * coalesce(last.unit_cost, last.value / last.quantity, b.average, 0), 4)
    end as value_after
  from values_before b left join lateral (
    select e.unit_cost, e.value, e.quantity from stock_ledger e
    where e.item_id = b.item_id and e.quantity > 0 and e.entry_type in ('IN', 'ADJUSTMENT')
      and (e.unit_cost is not null or e.value > 0)
    order by e.id desc limit 1
  ) last on true;

insert into stock_values (item_id, on_hand, value, last_cost)
  select item_id, on_hand, value_after, last_cost from settled;
-- until autovacuum comes by, postings would be planned for an empty table, and read all of it
analyze stock_values;

do $body$
declare
  document constant uuid := gen_random_uuid();
begin
  if exists (select from settled where value_after <> value) then
    insert into stock_transactions (id) values (document);
    insert into stock_ledger (transaction_id, line, item_id, entry_type, quantity, value, item_on_hand_after,
        value_after, occurred_at, origin, reason)
      select document, row_number() over (order by item_id), item_id, 'ADJUSTMENT', 0, value_after - value, on_hand,
        value_after, now(), 'SETTLEMENT', 'one average for the whole company: no average gave this value'
      from settled where value_after <> value order by item_id;
    raise notice 'the value of % items was settled by document %',
      (select count(*) from settled where value_after <> value), document;
  end if;
  if exists (
    select from values_before b full join stock_values v using (item_id)
    left join lateral (
      select sum(e.value) as value from stock_ledger e where e.transaction_id = document and e.item_id = b.item_id
    ) posted on true
    where v.on_hand is distinct from b.on_hand or v.value is distinct from b.value + coalesce(posted.value, 0)
  ) then
    raise exception 'an item would be worth something else afterwards: nothing was changed';
  end if;
end $body$;
"""

# Statement level, since a document of 2,000 lines asks once. The lock is shared among postings, and excludes whoever
# closes a period: that waits for the postings in flight, and what comes later sees what it wrote, since each query of
# a volatile function sees what was committed before it. `try again`: lock_not_available is what every version answers
# with 503 and Retry-After.
TRIGGERS = """
create function erp_refuse_by_location() returns trigger language plpgsql as $body$
begin
  raise exception 'this version of the service is being replaced, and posts no more stock: try again'
    using errcode = 'lock_not_available';
end $body$;
-- after, not before: COPY writes row by row where a trigger runs before each, which took half as long again
create trigger stock_ledger_posted_by_item after insert on stock_ledger
  for each row when (new.item_on_hand_after is null and new.value_after is not null)
  execute function erp_refuse_by_location();

create table company (
  id smallint not null default 1,
  timezone text not null default 'UTC',
  closed_through date,
  closed_at timestamptz,
  version bigint not null default 1,
  updated_at timestamptz not null default now(),
  constraint company_pkey primary key (id),
  constraint company_one_row check (id = 1),
  constraint company_closed_before_now check (closed_through < 'infinity'),
  constraint company_closed_at_some_time check ((closed_through is null) = (closed_at is null))
);
insert into company default values;

create function erp_refuse_closed_period() returns trigger language plpgsql as $body$
declare
  locked text;
  first_open timestamptz;
begin
  -- assigned, not performed: an expression costs a tenth of a statement, and every posting comes through here
  locked := pg_advisory_xact_lock_shared(hashtextextended('erp closed period', 0));
  select (closed_through + 1)::timestamp at time zone timezone into first_open from company;
  if first_open is null then
    return null;
  end if;
  if exists (select from added where occurred_at < first_open) then
    raise exception 'the period is closed'
      using errcode = 'check_violation', constraint = 'stock_ledger_period_open', table = 'stock_ledger',
        detail = to_char(first_open at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
  end if;
  return null;
end $body$;
create trigger stock_ledger_period_open after insert on stock_ledger
  referencing new table as added for each statement execute function erp_refuse_closed_period();
"""


def upgrade() -> None:
    script(op.get_bind(), LOCKS + COLUMNS + VALUES + TRIGGERS)
