"""Texts: searched and sorted alike on every server, in NFC, and units that stay once there are ledger entries.

Nothing here depends on the database's locale. What `q` searches and what names are sorted by are columns that the
database fills with functions of its own, compared byte by byte. An ICU collation would not do: a server may be built
without ICU (the embedded one is), and an index by it is damaged when the host's ICU is updated."""

from alembic import op
from sqlalchemy import Connection, text

from erp_service import errors
from erp_service.db.migrate import script

revision = "0012"
down_revision = "0011"

# Marks that `q` ignores: those of Latin, Greek and Cyrillic, the points of Hebrew, the vowel signs of Arabic. Marks of
# other scripts are letters to their readers. The letters after them are those with a stroke, and others that Unicode
# does not decompose. The second normalisation puts together again what is one letter, such as a syllable of Hangul.
_FUNCTIONS = r"""
create function erp_fold(value text) returns text language sql immutable parallel safe as $body$
  select case when octet_length(value) = length(value) then lower(value collate "C") else
    normalize(replace(replace(replace(translate(
      lower(regexp_replace(normalize(value, NFKD) collate "C",
        '[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670'
        '\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]',
        '', 'g') collate "{lower}") collate "C",
      'łøđðħŧıς', 'loddhtiσ'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), NFC) end
$body$;
comment on function erp_fold is 'the text without capitals and accents, as q compares it';

-- Numbers of up to ten digits sort by their value: Bolt 2 before Bolt 10. An index entry must stay below 2,700 bytes.
create function erp_sort_key(value text) returns text language plpgsql immutable parallel safe as $body$
declare
  -- with its schema: pg_dump's output computes the columns again under an empty search_path
  folded text collate "C" := {schema}.erp_fold(value);
begin
  if folded ~ '[0-9]' then
    folded := regexp_replace(folded, '([0-9]+)', '0000000000\1', 'g');
    folded := regexp_replace(folded, '0*([0-9]{10,})', '\1', 'g');
  end if;
  return left(folded, 300);
end $body$;
comment on function erp_sort_key is 'what names are sorted by, byte by byte, in the order in which people sort';
"""

# A sku that has a twin in NFC stays: which of the two is meant is for people to say, and `erp migrate` lists them.
_NORMALISE = """
with unique_forms as (
  select normalize({word}, NFC) as form from {table} group by 1 having count(*) = 1
), changed as (
  update {table} t set {word} = form, version = version + 1, updated_at = now()
  from unique_forms, (select id, {word} as before from {table} where {word} is not nfc normalized) old
  where t.id = old.id and form = normalize(old.before, NFC) returning t.id, old.before, t.{word} as after
)
insert into audit_log (action, entity, entity_id, before, after, reason)
select '{entity}.updated', '{entity}', id::text, jsonb_build_object('{word}', before),
  jsonb_build_object('{word}', after), 'written in the form NFC of Unicode when the service was updated'
from changed;
"""

_NORMALISE_OTHERS = """
update items set version = version + 1, updated_at = now(),
  name = normalize(name, NFC), unit = normalize(unit, NFC), description = normalize(description, NFC)
where name is not nfc normalized or unit is not nfc normalized or description is not nfc normalized;
update locations set version = version + 1, updated_at = now(),
  name = normalize(name, NFC), address = normalize(address, NFC)
where name is not nfc normalized or address is not nfc normalized;
"""

# The column's type first: a generated column fixes the types of those that it is made of.
_COLUMNS = r"""
alter table {table} alter column {word} type text collate "C";
drop index {table}_name_id_idx;
alter table {table}
  add column search text collate "C" not null
    generated always as (erp_fold({word}) || E'\n' || erp_fold(name)) stored,
  add column name_key text collate "C" not null generated always as (erp_sort_key(name)) stored;
create index {table}_name_key_id_idx on {table} (name_key, id);
alter table {table} add constraint {table}_{word}_nfc
  check ({word} is nfc normalized or deleted_at is not null) not valid;
do $body$ begin
  if not exists (select from {table} where {word} is not nfc normalized and deleted_at is null) then
    alter table {table} validate constraint {table}_{word}_nfc;
  end if;
end $body$;
"""

# Every posting holds the item FOR SHARE until it commits. The update waits for it before this runs, and this then sees
# its entries.
_UNITS = """
create function erp_refuse_new_unit() returns trigger language plpgsql as $body$
begin
  if exists (select from stock_ledger where item_id = new.id) then
    raise exception 'item % has ledger entries in its unit', new.id
      using errcode = 'check_violation', constraint = 'items_unit_stays', table = 'items', column = 'unit';
  end if;
  return new;
end $body$;
create trigger items_unit_stays before update of unit on items
  for each row when (new.unit is distinct from old.unit) execute function erp_refuse_new_unit();
"""


def upgrade() -> None:
    bind = op.get_bind()
    schema = str(bind.scalar(text("select quote_ident(current_schema())")))
    script(bind, _FUNCTIONS.replace("{lower}", _lower_collation(bind)).replace("{schema}", schema))
    for table, word, entity in (("items", "sku", "item"), ("locations", "code", "location")):
        script(bind, _NORMALISE.format(table=table, word=word, entity=entity))
    script(bind, _NORMALISE_OTHERS)
    for table, word in (("items", "sku"), ("locations", "code")):
        script(bind, _COLUMNS.format(table=table, word=word))
    script(bind, _UNITS)


def _lower_collation(bind: Connection) -> str:
    """A collation of every such server that knows the small letters of all scripts. Raises errors.Refused."""
    encoding = bind.scalar(
        text("select pg_encoding_to_char(encoding) from pg_database where datname = current_database()")
    )
    if encoding != "UTF8":
        raise errors.Refused(
            f"The database has the encoding {encoding}, and the service needs UTF8: make one with"
            " `create database ... template template0 encoding 'UTF8'`, and move the data to it with pg_dump."
        )
    # the first is built in since 17; Linux distributions build the servers before with ICU
    known = "select collname from pg_collation where collname in ('pg_c_utf8', 'und-x-icu') order by collname limit 1"
    if (collation := bind.scalar(text(known))) is None:
        raise errors.Refused(
            "This PostgreSQL knows the small letters of no locale: it is older than 17 and was built without ICU."
            " Use PostgreSQL 17 or newer, or one that was built with ICU, as those of Debian, Red Hat and Docker are."
        )
    return str(collation)
