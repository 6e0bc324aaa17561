"""People: where from and when a sign-in was last used, second factors, and passwords that somebody else has set."""

from alembic import op

from erp_service.db.migrate import script

revision = "0023"
down_revision = "0022"

STATEMENTS = """
-- Rows of the version before have none of these.
alter table refresh_families
  add column address text,
  add column user_agent text,
  add column last_used_at timestamptz,
  add column second_factor boolean not null default false;

alter table users
  add column second_factor_since timestamptz,
  add column password_set_at timestamptz,
  add column password_expires_at timestamptz;
-- apart: of the users that are there, nobody knows it
alter table users alter column password_set_at set default now();

create table second_factors (
  user_id bigint not null,
  secret text,
  pending_secret text,
  pending_since timestamptz,
  last_step bigint not null default 0,
  constraint second_factors_pkey primary key (user_id),
  constraint second_factors_user_id_fkey foreign key (user_id) references users (id),
  constraint second_factors_pending_some_time check ((pending_secret is null) = (pending_since is null))
);
create table recovery_codes (
  user_id bigint not null,
  digest bytea not null,
  constraint recovery_codes_pkey primary key (user_id, digest),
  constraint recovery_codes_user_id_fkey foreign key (user_id) references users (id)
);

-- How many sign-ins of a user are open: all that the access review shows of them. Whoever reads reports and exports
-- reads nothing else of that table.
create function erp_open_sign_ins(user_id bigint) returns bigint
  language sql stable strict security definer set search_path = pg_catalog, pg_temp
  as $body$
    select count(*) from public.refresh_families family
    where family.user_id = $1 and family.revoked_at is null and family.expires_at > now()
  $body$;

-- Whoever must have a second factor may do less without it: as a change of the role, that is told to every instance.
drop trigger users_tell_authority on users;
create trigger users_tell_authority
  after insert or update of role, is_active, authority_version, second_factor_since on users
  for each row execute function erp_tell_authority();

create function erp_tell_authorities() returns trigger language plpgsql as $body$
begin
  -- that of all users
  perform pg_notify('erp_authority', '');
  return null;
end $body$;
create trigger company_tell_authorities after update of settings on company
  for each row when (
    old.settings -> 'second_factor_from' is distinct from new.settings -> 'second_factor_from'
  ) execute function erp_tell_authorities();
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
