"""E-mails compared without the database's locale, known networks of accounts, notices of ended sign-ins, and passwords
that must be changed."""

from collections import defaultdict

from alembic import op
from sqlalchemy import text

from erp_service import errors
from erp_service.auth.emails import email_key
from erp_service.db.migrate import script

revision = "0010"
down_revision = "0009"

ADD_KEY = """
-- Until the end, so that no user appears whose key is not compared below.
lock table users in share row exclusive mode;
alter table users add column email_key text collate "C";
alter table users add column must_change_password boolean not null default false;
"""

# The version before writes no key. What this computes differs from ours for a few letters only, such as ligatures.
FALLBACK = """
create function erp_email_key_fallback(email text) returns text language sql immutable as $body$
  select normalize(replace(translate(lower(normalize(email, nfc) {collation}), 'ςſ', 'σs'), 'ß', 'ss'), nfc)
$body$;
create function erp_fill_email_key() returns trigger language plpgsql as $body$
begin
  if tg_op = 'INSERT' then
    new.email_key := coalesce(new.email_key, erp_email_key_fallback(new.email));
  elsif new.email_key = old.email_key
      and erp_email_key_fallback(new.email) <> erp_email_key_fallback(old.email) then
    new.email_key := erp_email_key_fallback(new.email);
  end if;
  return new;
end $body$;
create trigger users_fill_email_key before insert or update of email on users
  for each row execute function erp_fill_email_key();
"""

STATEMENTS = """
alter table users alter column email_key set not null;
-- Under the old name, which the version before knows too when a second user with the same e-mail is refused.
drop index users_email_key;
create unique index users_email_key on users (email_key);

create table login_networks (
  user_id bigint not null,
  network text not null,
  last_success_at timestamptz not null default now(),
  constraint login_networks_pkey primary key (user_id, network),
  constraint login_networks_user_id_fkey foreign key (user_id) references users (id)
);
create index login_networks_last_success_at_idx on login_networks (last_success_at);

-- A channel of its own: on that of authority, the version before reads each payload as the id of a user.
create function erp_tell_revocation() returns trigger language plpgsql as $body$
begin
  perform pg_notify('erp_revocations', new.id::text);
  return null;
end $body$;
create trigger refresh_families_tell_revocation after update of revoked_at on refresh_families
  for each row when (old.revoked_at is null and new.revoked_at is not null) execute function erp_tell_revocation();
create index refresh_families_revoked_at_idx on refresh_families (revoked_at) where revoked_at is not null;
"""


def upgrade() -> None:
    connection = op.get_bind()
    script(connection, ADD_KEY)
    users: defaultdict[str, list[str]] = defaultdict(list)
    keys = []
    for row in connection.execute(text("select id, email, is_active from users order by id")):
        key = email_key(row.email)
        users[key].append(f"user {row.id} ({row.email}, {'active' if row.is_active else 'deactivated'})")
        keys.append({"id": row.id, "key": key})
    if same := [" and ".join(found) for found in users.values() if len(found) > 1]:
        raise errors.Conflict(
            "Nothing was migrated: these users have the same e-mail but for capitals or how letters are encoded, and"
            f" from this version on they would be one person: {'; '.join(same)}. Give one of each another e-mail, with"
            " PUT /api/v1/users/{id} on the version that runs now, then migrate again."
        )
    if keys:
        connection.execute(text("update users set email_key = :key where id = :id"), keys)
    icu = connection.scalar(text("select exists (select from pg_collation where collname = 'und-x-icu')"))
    script(connection, FALLBACK.format(collation='collate "und-x-icu"' if icu else ""))
    script(connection, STATEMENTS)
