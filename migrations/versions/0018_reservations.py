"""Stock that is held for somebody until a time."""

from alembic import op

from erp_service.db.migrate import script

revision = "0018"
down_revision = "0017"

# A reservation belongs to the balance that holds it, so its foreign key is the balance's and no lock on items or
# locations is needed here. That of the user is checked once for each new reservation.
STATEMENTS = """
create table stock_reservations (
  id uuid not null,
  item_id bigint not null,
  location_id bigint not null,
  quantity numeric(18,6) not null,
  original_quantity numeric(18,6) not null,
  status text not null default 'ACTIVE',
  reference text,
  expires_at timestamptz not null,
  user_id bigint,
  created_at timestamptz not null default now(),
  ended_at timestamptz,
  version bigint not null default 1,
  constraint stock_reservations_pkey primary key (id),
  constraint stock_reservations_item_id_location_id_fkey
    foreign key (item_id, location_id) references stock_balances (item_id, location_id),
  constraint stock_reservations_user_id_fkey foreign key (user_id) references users (id),
  constraint stock_reservations_status_known check (status in ('ACTIVE', 'USED', 'RELEASED', 'EXPIRED')),
  constraint stock_reservations_numbers check (
    original_quantity > 0 and original_quantity <> 'NaN' and quantity between 0 and original_quantity
  ),
  constraint stock_reservations_active_holds check (status <> 'ACTIVE' or quantity > 0),
  constraint stock_reservations_used_up check (status <> 'USED' or quantity = 0),
  constraint stock_reservations_ended check ((status = 'ACTIVE') = (ended_at is null)),
  constraint stock_reservations_expires check (expires_at < 'infinity')
);
-- with the time, so that whoever needs the stock of a balance reads those that have expired and none of the others
create index stock_reservations_active_idx on stock_reservations (item_id, location_id, expires_at)
  where status = 'ACTIVE';
create index stock_reservations_active_id_idx on stock_reservations (id) where status = 'ACTIVE';
create index stock_reservations_due_idx on stock_reservations (expires_at) where status = 'ACTIVE';
create index stock_reservations_reference_id_idx on stock_reservations (reference, id) where reference is not null;
create index stock_reservations_item_id_id_idx on stock_reservations (item_id, id);
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
