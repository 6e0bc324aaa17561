"""Counts of stock: what was counted of which item at a location, and what the books said at that moment.

Two new tables; the version before knows neither. The triggers hold what no constraint can say: a count that has ended
stays as it is, with its lines. That of the lines locks the count FOR SHARE before it looks at it, so a line cannot be
changed while the count is being posted, whoever writes it."""

from alembic import op

from erp_service.db.migrate import script

revision = "0019"
down_revision = "0018"

TABLES = """
create table stock_counts (
  id uuid not null,
  location_id bigint not null,
  status text not null default 'OPEN',
  reference_no text,
  notes text,
  user_id bigint,
  created_at timestamptz not null default now(),
  last_entry_id bigint,
  ended_at timestamptz,
  differences integer,
  transaction_id uuid,
  version bigint not null default 1,
  constraint stock_counts_pkey primary key (id),
  constraint stock_counts_location_id_fkey foreign key (location_id) references locations (id),
  constraint stock_counts_user_id_fkey foreign key (user_id) references users (id),
  constraint stock_counts_transaction_id_fkey foreign key (transaction_id) references stock_transactions (id),
  constraint stock_counts_transaction_id_key unique (transaction_id),
  constraint stock_counts_status_known check (status in ('OPEN', 'POSTED', 'CANCELED')),
  constraint stock_counts_end_of_open check ((status = 'OPEN') = (ended_at is null)),
  constraint stock_counts_document_of_differences check (
    case when status = 'POSTED'
      then differences is not null and differences >= 0 and (differences > 0) = (transaction_id is not null)
      else differences is null and transaction_id is null end
  )
);
create index stock_counts_location_id_id_idx on stock_counts (location_id, id);

create table stock_count_lines (
  count_id uuid not null,
  item_id bigint not null,
  counted numeric(18,6) not null,
  expected numeric(18,6) not null,
  last_entry_id bigint,
  counted_at timestamptz,
  user_id bigint,
  unit_cost numeric,
  total_cost numeric(18,4),
  document_line integer,
  constraint stock_count_lines_pkey primary key (count_id, item_id),
  constraint stock_count_lines_count_id_fkey foreign key (count_id) references stock_counts (id),
  constraint stock_count_lines_item_id_fkey foreign key (item_id) references items (id),
  constraint stock_count_lines_counted_not_negative check (counted >= 0 and counted <> 'NaN'),
  constraint stock_count_lines_numbers check (expected <> 'NaN'),
  constraint stock_count_lines_one_cost check (unit_cost is null or total_cost is null),
  constraint stock_count_lines_unit_cost_decimals check (
    unit_cost >= 0 and unit_cost < 1e18 and scale(unit_cost) <= 10
  ),
  constraint stock_count_lines_total_cost_of_some check (
    total_cost >= 0 and total_cost <> 'NaN' and (total_cost is null or counted > 0)
  )
);
create index stock_count_lines_item_id_count_id_idx on stock_count_lines (item_id, count_id);
"""

# The lines are many, so their triggers look once a statement. A change of one has an old and a new row, each of which
# names a count.
TRIGGERS = """
create function erp_refuse_ended_count() returns trigger language plpgsql as $body$
begin
  if tg_op = 'DELETE' or old.status <> 'OPEN' then
    raise exception 'a count that has ended stays as it is, and none is deleted'
      using errcode = 'check_violation', constraint = 'stock_counts_open', table = 'stock_counts';
  end if;
  return new;
end $body$;
create trigger stock_counts_open before update or delete on stock_counts
  for each row execute function erp_refuse_ended_count();

create function erp_refuse_lines_of_ended_count() returns trigger language plpgsql as $body$
begin
  perform from stock_counts where id in (select count_id from changed) order by id for share;
  if exists (select from stock_counts where id in (select count_id from changed) and status <> 'OPEN') then
    raise exception 'the lines of a count that has ended stay as they are'
      using errcode = 'check_violation', constraint = 'stock_counts_open', table = 'stock_count_lines';
  end if;
  return null;
end $body$;
create trigger stock_count_lines_added after insert on stock_count_lines
  referencing new table as changed for each statement execute function erp_refuse_lines_of_ended_count();
create trigger stock_count_lines_removed after delete on stock_count_lines
  referencing old table as changed for each statement execute function erp_refuse_lines_of_ended_count();
create trigger stock_count_lines_changed_from after update on stock_count_lines
  referencing old table as changed for each statement execute function erp_refuse_lines_of_ended_count();
create trigger stock_count_lines_changed_to after update on stock_count_lines
  referencing new table as changed for each statement execute function erp_refuse_lines_of_ended_count();
"""


def upgrade() -> None:
    script(op.get_bind(), TABLES + TRIGGERS)
