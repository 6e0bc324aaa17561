"""The new database before the first row: roles, schema, nothing in it, and closed to everybody but the replication."""

from ops.backups import options
from ops.backups.after_restore import find_erp, run_erp
from ops.backups.programs import Failure, system_identifier

from .pair import Pair, ask, elsewhere

# Passwords are the verifiers that the server stores. Only a superuser sees them, and psql gets them by a pipe.
_ROLES = """
select coalesce(string_agg(format('create role %I with %s %s %s %s %s %s %s connection limit %s%s%s;', rolname,
  case when rolsuper then 'superuser' else 'nosuperuser' end,
  case when rolinherit then 'inherit' else 'noinherit' end,
  case when rolcreaterole then 'createrole' else 'nocreaterole' end,
  case when rolcreatedb then 'createdb' else 'nocreatedb' end,
  case when rolcanlogin then 'login' else 'nologin' end,
  case when rolreplication then 'replication' else 'noreplication' end,
  case when rolbypassrls then 'bypassrls' else 'nobypassrls' end, rolconnlimit,
  coalesce(' password ' || quote_literal(rolpassword), ''),
  coalesce(' valid until ' || quote_literal(rolvaliduntil), '')),
  E'\n' order by rolname), '')
from pg_authid where rolname !~ '^pg_' and not rolname = any(string_to_array(:'known', ','));
"""
_MEMBERS = """
select coalesce(string_agg(format('grant %I to %I%s;', granted.rolname, member.rolname,
  case when admin_option then ' with admin option' else '' end), E'\n'), '')
from pg_auth_members
join pg_roles granted on granted.oid = roleid join pg_roles member on member.oid = pg_auth_members.member
where not member.rolname = any(string_to_array(:'known', ','));
"""
_ROLE_SETTINGS = """
select coalesce(string_agg(case when setrole = 0 then format('alter database %I', :'database')
    else format('alter role %I', rolname) || case when setdatabase = 0 then ''
    else format(' in database %I', :'database') end end || format(' set %I = %s;', split_part(entry, '=', 1),
  -- a list, such as a search_path, is kept as it was written; any other value is one text
  case when split_part(entry, '=', 1) in ('search_path', 'DateStyle', 'temp_tablespaces', 'session_preload_libraries',
      'local_preload_libraries') then substr(entry, strpos(entry, '=') + 1)
    else quote_literal(substr(entry, strpos(entry, '=') + 1)) end), E'\n'), '')
from pg_db_role_setting left join pg_roles role on role.oid = setrole cross join unnest(setconfig) entry
where setdatabase in (0, (select oid from pg_database where datname = current_database()))
  and entry not like 'default\\_transaction\\_read\\_only=%'
  and (setdatabase <> 0 or not rolname = any(string_to_array(:'known', ',')));
"""
_KNOWN = "select string_agg(rolname, ',') from pg_roles;"
_OWNER = "select rolname from pg_database join pg_roles role on role.oid = datdba where datname = current_database();"
_CREATE = """
select format('create database %I owner %I template template0 encoding %L', :'name', :'owner', 'UTF8')
where not exists (select from pg_database where datname = :'name') \\gexec
"""
_ENCODING = "select pg_encoding_to_char(encoding) from pg_database where datname = current_database();"
_IS_MIGRATED = "select to_regclass('public.alembic_version') is not null;"
_IS_COPY = """
select coalesce(shobj_description(oid, 'pg_database') = :'mark', false) from pg_database
where datname = current_database();
"""
_HAS_DATA = "select exists (select from users) or exists (select from audit_log) or exists (select from stock_ledger);"

# In this role no trigger fires that refuses changes of what is append-only; a migration's own rows (the company, the
# store) come from the old database like all others.
_EMPTY = """
set session_replication_role = replica;
select format('truncate %s', string_agg(class.oid::regclass::text, ', ')) from pg_class class
where relkind = 'r' and relnamespace = 'public'::regnamespace \\gexec
"""
CLOSE = """
alter database :"name" set default_transaction_read_only = on;
alter role current_user in database :"name" set default_transaction_read_only = off;
comment on database :"name" is :'mark';
"""


def prepare(pair: Pair, erp: str | None) -> None:
    """Makes what is missing, but for the rows; may be repeated until the subscription exists. Raises Failure."""
    server = elsewhere(pair.new, "postgres")
    known = ask(server, _KNOWN)
    for statements in (_ROLES, _MEMBERS):
        ask(server, ask(pair.old, statements, known=known))
    ask(server, _CREATE, name=pair.new.database, owner=ask(pair.old, _OWNER))
    ask(pair.new, ask(pair.old, _ROLE_SETTINGS, database=pair.new.database, known=known))
    if (encoding := ask(pair.new, _ENCODING)) != "UTF8":
        raise Failure(f"the new database's encoding is {encoding}: drop it, and this tool makes one in UTF8")
    if ask(pair.new, _IS_MIGRATED) == "f":
        _migrate(pair, erp)


def _migrate(pair: Pair, erp: str | None) -> None:
    """By the service's own migrations and not by pg_dump: they choose, for example, a collation that the server has."""
    command = find_erp(erp)
    if command is None:
        raise Failure(
            "the new database has no tables yet: run erp migrate of the release that runs, against the new address,"
            " then this again"
        )
    options.log("making the schema of the new database: erp migrate")
    run_erp(command, pair.owner, "migrate")


def mark(pair: Pair) -> str:
    """The comment of a database that this tool may empty, since it is a copy and was never opened."""
    return f"a copy for an upgrade of the cluster {system_identifier(pair.old)}, not in use"


def empty(pair: Pair) -> None:
    """Raises Failure if it holds data that may be somebody's."""
    text = mark(pair)
    if ask(pair.new, _HAS_DATA) == "t" and ask(pair.new, _IS_COPY, mark=text) == "f":
        raise Failure(
            f"the new database {pair.new.database} holds data and is no copy by this tool: name another, or drop it"
        )
    ask(pair.new, CLOSE, name=pair.new.database, mark=text)
    ask(pair.new, _EMPTY)
