"""Webhooks: endpoints that are told of events, their secrets, and what was sent to them."""

from alembic import op

from erp_service.db.migrate import script

revision = "0025"
down_revision = "0024"

STATEMENTS = """
-- cursor: the position of the trail up to which everything was delivered, or did not concern it
create table webhooks (
  id uuid not null,
  url text not null,
  types text[],
  description text,
  is_active boolean not null default true,
  disabled_because text,
  cursor bigint not null,
  blocked_position bigint,
  blocked_since timestamptz,
  failures integer not null default 0,
  next_attempt_at timestamptz,
  last_error text,
  last_success_at timestamptz,
  queue_job_id bigint,
  attempt integer not null default 0,
  created_by bigint,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1,
  constraint webhooks_pkey primary key (id),
  constraint webhooks_url_key unique (url),
  constraint webhooks_created_by_fkey foreign key (created_by) references users (id),
  constraint webhooks_disabled_because_known check (disabled_because in ('GONE', 'FAILED')),
  constraint webhooks_disabled_is_not_active check (disabled_because is null or not is_active),
  constraint webhooks_cursor_not_negative check (cursor >= 0),
  constraint webhooks_blocked check (
    (blocked_position is null) = (blocked_since is null) and (blocked_since is null) = (failures = 0)
    and blocked_position > cursor
  )
);

-- in a table of their own, so that whoever may read webhooks need not be able to read these
create table webhook_secrets (
  id bigint not null generated always as identity,
  webhook_id uuid not null,
  secret bytea not null,
  valid_until timestamptz,
  constraint webhook_secrets_pkey primary key (id),
  constraint webhook_secrets_webhook_id_fkey foreign key (webhook_id) references webhooks (id) on delete cascade
);
create index webhook_secrets_webhook_id_idx on webhook_secrets (webhook_id, id);

create table webhook_deliveries (
  id bigint not null generated always as identity,
  webhook_id uuid not null,
  position bigint not null,
  type text not null,
  attempt integer not null,
  status integer,
  error text,
  milliseconds integer not null,
  response text not null,
  at timestamptz not null default clock_timestamp(),
  constraint webhook_deliveries_pkey primary key (id),
  constraint webhook_deliveries_webhook_id_fkey foreign key (webhook_id) references webhooks (id) on delete cascade,
  constraint webhook_deliveries_status_or_error check ((status is null) = (error is not null))
);
create index webhook_deliveries_webhook_id_idx on webhook_deliveries (webhook_id, id);
create index webhook_deliveries_at_idx on webhook_deliveries (at);
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
