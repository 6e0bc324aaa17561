"""E-mails compared without the database's locale, known networks of accounts, notices of ended sign-ins, and passwords
that must be changed."""

import string
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

# For the version before, which writes no key: emails.email_key in SQL. PostgreSQL's own functions for it depend on its
# version, on how it was built or on the database's locale.
FALLBACK = """
create function erp_email_key(email text) returns text language sql immutable as $body$
  select normalize(replace(normalize({folded}, nfd), 'i' || chr(775), 'i'), nfc)
$body$;
create function erp_fill_email_key() returns trigger language plpgsql as $body$
begin
  if tg_op = 'INSERT' then
    new.email_key := coalesce(new.email_key, erp_email_key(new.email));
  elsif new.email_key = old.email_key and erp_email_key(new.email) <> erp_email_key(old.email) then
    new.email_key := erp_email_key(new.email);
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
    script(connection, FALLBACK.format(folded=_folded("normalize(email, nfd)")))
    script(connection, STATEMENTS)


def _folded(text: str) -> str:
    """SQL for Python's `casefold` of a text, which is SQL too."""
    # no letter with capitals lies beyond: it takes a third of a second to look at all of Unicode
    changed = {chr(n): chr(n).casefold() for n in range(128, 0x20000) if chr(n).casefold() != chr(n)}
    changed |= {letter: letter.casefold() for letter in string.ascii_uppercase}
    single = {letter: folded for letter, folded in changed.items() if len(folded) == 1}
    text = f"translate({text}, '{''.join(single)}', '{''.join(single.values())}')"
    for letter in changed.keys() - single.keys():
        text = f"replace({text}, '{letter}', '{changed[letter]}')"
    return text
