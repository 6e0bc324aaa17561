"""Compares the two databases while neither changes: the rows of every table are counted, small tables and the newest
rows of large ones are compared by their content."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ops.backups.programs import Server

from .pair import Pair, ask, ask_json

WHOLE_BYTES = 16 << 20
"""A table up to this size is compared as a whole."""

NEWEST = 10_000
"""So many rows of a larger one, those with the greatest keys."""

# Generated columns are left out: each server computes its own, by the rules of its own version for letters. The rows'
# digests are added up, so that their order does not matter.
_STATEMENTS = """
select coalesce(json_agg(json_build_object('table', class.oid::regclass::text, 'statement', format(
    'select json_build_object(''rows'', (select count(*) from %1$s), ''content'', (select sum((''x'' ||
      encode(substring(sha256(convert_to(row(%2$s)::text, ''UTF8'')) for 7), ''hex''))::bit(56)::bigint::numeric)::text
      from (select %2$s from %1$s %3$s) compared))', class.oid::regclass, columns,
    case when pg_table_size(class.oid) > :'whole'::bigint
      then format('order by %s limit %s', backwards, :'newest') else '' end)) order by class.oid::regclass::text), '[]')
from pg_class class
cross join lateral (
  select string_agg(quote_ident(attname), ', ' order by attname) as columns from pg_attribute
  where attrelid = class.oid and attnum > 0 and not attisdropped and attgenerated = '') named
left join lateral (
  select string_agg(quote_ident(attname) || ' desc', ', ' order by array_position(indkey::int[], attnum::int))
    as backwards
  from pg_index join pg_attribute on attrelid = class.oid and attnum = any(indkey)
  where indrelid = class.oid and indisprimary) keyed on true
where class.relkind = 'r' and class.relpersistence = 'p'
  and relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace);
"""
_TIMES = "set extra_float_digits = 3; set datestyle = 'ISO'; set bytea_output = 'hex'; set intervalstyle = 'postgres';"


def differences(pair: Pair) -> list[str]:
    """A line for each table that differs. Both servers are asked at the same time. Raises Failure."""
    statements = ask_json(pair.old, _STATEMENTS, whole=str(WHOLE_BYTES), newest=str(NEWEST))
    with ThreadPoolExecutor(2) as both:
        old, new = both.map(lambda server: _contents(server, statements), (pair.old, pair.new))
    return [f"{table}: {_difference(old[table], new[table])}" for table in old if old[table] != new[table]]


def _contents(server: Server, statements: list[dict[str, str]]) -> dict[str, Any]:
    """What psql prints, a line for each statement, on one snapshot."""
    body = ";\n".join(entry["statement"] for entry in statements)
    lines = ask(server, f"{_TIMES} begin isolation level repeatable read read only;\n{body};\ncommit;").splitlines()
    return {entry["table"]: json.loads(line) for entry, line in zip(statements, lines, strict=True)}


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    if old["rows"] != new["rows"]:
        return f"{old['rows']:,} rows in the old database, {new['rows']:,} in the new one"
    return f"{old['rows']:,} rows in both, with another content"
