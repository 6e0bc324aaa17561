"""Items, locations, the stock ledger and its balances."""

from alembic import op

from erp_service.db.migrate import script

revision = "0003"
down_revision = "0002"

STATEMENTS = """
create table items (
  id bigint generated always as identity,
  sku text not null,
  name text not null,
  unit text not null,
  status text not null default 'ACTIVE',
  description text,
  reorder_point numeric(18,6),
  version bigint not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint items_pkey primary key (id),
  constraint items_sku_key unique (sku),
  constraint items_status_known check (status in ('ACTIVE', 'INACTIVE', 'DISCONTINUED')),
  constraint items_reorder_point_not_negative check (reorder_point >= 0 and reorder_point <> 'NaN')
);
create index items_name_id_idx on items (name, id);

create table locations (
  id bigint generated always as identity,
  code text not null,
  name text not null,
  location_type text not null,
  address text,
  parent_id bigint,
  allow_negative_stock boolean not null default false,
  version bigint not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint locations_pkey primary key (id),
  constraint locations_code_key unique (code),
  constraint locations_parent_id_fkey foreign key (parent_id) references locations (id),
  constraint locations_location_type_known check (location_type in ('WAREHOUSE', 'ZONE', 'BIN')),
  constraint locations_not_its_own_parent check (parent_id <> id)
);
create index locations_parent_id_idx on locations (parent_id);
create index locations_name_id_idx on locations (name, id);

create table stock_transactions (
  id uuid not null,
  recorded_at timestamptz not null default clock_timestamp(),
  user_id bigint,
  reverses uuid,
  constraint stock_transactions_pkey primary key (id),
  constraint stock_transactions_reverses_key unique (reverses),
  constraint stock_transactions_user_id_fkey foreign key (user_id) references users (id),
  constraint stock_transactions_reverses_fkey foreign key (reverses) references stock_transactions (id)
);
create trigger stock_transactions_append_only before update or delete or truncate on stock_transactions
  for each statement execute function erp_refuse_change();

create table stock_ledger (
  id bigint generated always as identity,
  transaction_id uuid not null,
  line integer not null,
  item_id bigint not null,
  location_id bigint not null,
  entry_type text not null,
  quantity numeric(18,6) not null,
  value numeric(18,4) not null,
  unit_cost numeric(18,4),
  on_hand_after numeric(18,6) not null,
  value_after numeric(18,4) not null,
  occurred_at timestamptz not null,
  recorded_at timestamptz not null default clock_timestamp(),
  reference_no text,
  notes text,
  reason text,
  metadata jsonb not null default '{}',
  user_id bigint,
  constraint stock_ledger_pkey primary key (id),
  constraint stock_ledger_transaction_id_line_id_key unique (transaction_id, line, id),
  constraint stock_ledger_transaction_id_fkey foreign key (transaction_id) references stock_transactions (id),
  constraint stock_ledger_item_id_fkey foreign key (item_id) references items (id),
  constraint stock_ledger_location_id_fkey foreign key (location_id) references locations (id),
  constraint stock_ledger_user_id_fkey foreign key (user_id) references users (id),
  constraint stock_ledger_sign_of_type check (
    case entry_type
      when 'IN' then quantity > 0
      when 'TRANSFER_IN' then quantity > 0
      when 'OUT' then quantity < 0
      when 'TRANSFER_OUT' then quantity < 0
      when 'ADJUSTMENT' then true
      else false
    end
  ),
  constraint stock_ledger_numbers check (quantity <> 'NaN' and value <> 'NaN' and on_hand_after <> 'NaN')
);
create index stock_ledger_item_id_location_id_id_idx on stock_ledger (item_id, location_id, id);
create index stock_ledger_item_id_location_id_occurred_at_idx on stock_ledger (item_id, location_id, occurred_at);
create index stock_ledger_item_id_id_idx on stock_ledger (item_id, id);
create index stock_ledger_location_id_id_idx on stock_ledger (location_id, id);
create index stock_ledger_entry_type_id_idx on stock_ledger (entry_type, id);
create index stock_ledger_occurred_at_idx on stock_ledger (occurred_at);
create index stock_ledger_reference_no_id_idx on stock_ledger (reference_no, id) where reference_no is not null;
create trigger stock_ledger_append_only before update or delete or truncate on stock_ledger
  for each statement execute function erp_refuse_change();

create table stock_balances (
  item_id bigint not null,
  location_id bigint not null,
  on_hand numeric(18,6) not null default 0,
  value numeric(18,4) not null default 0,
  last_average numeric(28,10),
  allows_negative boolean not null default false,
  constraint stock_balances_pkey primary key (item_id, location_id),
  constraint stock_balances_item_id_fkey foreign key (item_id) references items (id),
  constraint stock_balances_location_id_fkey foreign key (location_id) references locations (id),
  constraint stock_balances_on_hand_not_negative check (on_hand >= 0 or allows_negative),
  constraint stock_balances_numbers check (on_hand <> 'NaN' and value <> 'NaN' and last_average <> 'NaN'),
  constraint stock_balances_nothing_is_worth_nothing check (on_hand <> 0 or value = 0),
  constraint stock_balances_value_not_negative check (on_hand <= 0 or value >= 0)
) with (fillfactor = 50);
create index stock_balances_location_id_item_id_idx on stock_balances (location_id, item_id);

create table imports (
  id bigint generated always as identity,
  kind text not null,
  sha256 text not null,
  filename text not null,
  row_count bigint not null,
  imported_at timestamptz not null default now(),
  constraint imports_pkey primary key (id),
  constraint imports_kind_sha256_key unique (kind, sha256)
);
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
