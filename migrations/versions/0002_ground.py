"""Users and their sessions, the audit log, idempotency and limits."""

from alembic import op

from erp_service.db.migrate import script

revision = "0002"
down_revision = "0001"

STATEMENTS = """
create table users (
  id bigint generated always as identity,
  email text not null,
  full_name text not null,
  role text not null,
  is_active boolean not null default true,
  password_hash text not null,
  version bigint not null default 1,
  authority_version integer not null default 1,
  created_at timestamptz not null default now(),
  last_login_at timestamptz,
  constraint users_pkey primary key (id),
  constraint users_role_known check (role in ('VIEWER', 'STAFF', 'ADMIN', 'SUPER_ADMIN'))
);
create unique index users_email_key on users (lower(email));

create function erp_tell_authority() returns trigger language plpgsql as $body$
begin
  perform pg_notify('erp_authority', new.id::text);
  return null;
end $body$;
create trigger users_tell_authority after insert or update of role, is_active, authority_version on users
  for each row execute function erp_tell_authority();

create table refresh_families (
  id uuid not null,
  user_id bigint not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  revoked_because text,
  constraint refresh_families_pkey primary key (id),
  constraint refresh_families_user_id_fkey foreign key (user_id) references users (id)
);
create index refresh_families_user_id_idx on refresh_families (user_id);
create index refresh_families_expires_at_idx on refresh_families (expires_at);

create table refresh_tokens (
  digest bytea not null,
  family_id uuid not null,
  issued_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at timestamptz,
  constraint refresh_tokens_pkey primary key (digest),
  constraint refresh_tokens_family_id_fkey foreign key (family_id) references refresh_families (id) on delete cascade
);
create index refresh_tokens_family_id_idx on refresh_tokens (family_id);
create index refresh_tokens_expires_at_idx on refresh_tokens (expires_at);

create table audit_log (
  id bigint generated always as identity,
  at timestamptz not null default clock_timestamp(),
  user_id bigint,
  action text not null,
  entity text not null,
  entity_id text not null,
  before jsonb,
  after jsonb,
  reason text,
  request_id text,
  address text,
  constraint audit_log_pkey primary key (id),
  constraint audit_log_user_id_fkey foreign key (user_id) references users (id)
);
create index audit_log_user_id_idx on audit_log (user_id, id);
create index audit_log_entity_idx on audit_log (entity, entity_id, id);
create index audit_log_action_idx on audit_log (action, id);
create index audit_log_request_id_idx on audit_log (request_id, id);
create index audit_log_at_idx on audit_log (at);

create function erp_refuse_change() returns trigger language plpgsql as $body$
begin
  raise exception '% is append-only: % is refused', tg_table_name, tg_op using errcode = 'restrict_violation';
end $body$;
create trigger audit_log_append_only before update or delete or truncate on audit_log
  for each statement execute function erp_refuse_change();

create table idempotency (
  user_id bigint not null,
  key text not null,
  digest bytea not null,
  status smallint not null,
  headers jsonb not null,
  body bytea not null,
  created_at timestamptz not null default now(),
  constraint idempotency_pkey primary key (user_id, key),
  constraint idempotency_user_id_fkey foreign key (user_id) references users (id)
);
create index idempotency_created_at_idx on idempotency (created_at);

create unlogged table rate_limits (
  key text not null,
  taken integer not null,
  resets_at timestamptz not null default now(),
  constraint rate_limits_pkey primary key (key)
);
create index rate_limits_resets_at_idx on rate_limits (resets_at);
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
