"""API keys: programs that act for the user who made their key."""

from alembic import op

from erp_service.db.migrate import script

revision = "0022"
down_revision = "0021"

STATEMENTS = """
create table api_keys (
  id bigint generated always as identity,
  user_id bigint not null,
  name text not null,
  role text not null,
  scopes text[] not null,
  networks text[],
  digest bytea not null,
  hint text not null,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  last_used_at timestamptz,
  revoked_at timestamptz,
  revoked_by bigint,
  constraint api_keys_pkey primary key (id),
  constraint api_keys_user_id_fkey foreign key (user_id) references users (id),
  constraint api_keys_revoked_by_fkey foreign key (revoked_by) references users (id),
  constraint api_keys_role_known check (role in ('VIEWER', 'STAFF', 'ADMIN', 'SUPER_ADMIN')),
  constraint api_keys_scopes_some check (cardinality(scopes) > 0),
  constraint api_keys_networks_some check (cardinality(networks) > 0),
  constraint api_keys_digest_sha256 check (length(digest) = 32),
  constraint api_keys_revoked_by_somebody check (revoked_by is null or revoked_at is not null)
);
create unique index api_keys_digest_key on api_keys (digest);
create index api_keys_user_id_id_idx on api_keys (user_id, id);

-- recorded answers, exports and the audit log rely on it that a key means for ever what it meant when it was made
create function erp_keep_api_key() returns trigger language plpgsql as $body$
begin
  if tg_op = 'DELETE'
    or (new.id, new.user_id, new.name, new.role, new.scopes, new.networks, new.digest, new.hint, new.expires_at,
        new.created_at) is distinct from
      (old.id, old.user_id, old.name, old.role, old.scopes, old.networks, old.digest, old.hint, old.expires_at,
        old.created_at)
    or (old.revoked_at is not null
      and (new.revoked_at, new.revoked_by) is distinct from (old.revoked_at, old.revoked_by))
  then
    raise exception 'an API key does not change: it is revoked, once' using errcode = 'restrict_violation';
  end if;
  return new;
end $body$;
create trigger api_keys_keep before update or delete on api_keys for each row execute function erp_keep_api_key();

create function erp_tell_api_key() returns trigger language plpgsql as $body$
begin
  perform pg_notify('erp_api_keys', new.id::text);
  return null;
end $body$;
-- not for last_used_at: a notifying commit takes a lock that all commits share
create trigger api_keys_tell after insert or update of revoked_at on api_keys
  for each row execute function erp_tell_api_key();
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
