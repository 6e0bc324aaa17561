"""The ledger's foreign keys give way to proofs, and to triggers on the items and locations that it names.

They were half of the time of inserting many lines, to say what a posting knows: it holds the item and the location FOR
SHARE, and writes the document in the same statement. `erp verify` names every entry for which it does not hold. What
the keys kept from being deleted stays: documents are append-only, users are named by their documents, and items and
locations have the triggers below, beside the foreign keys of the balances. The version before inserts as it did."""

from alembic import op

from erp_service.db.migrate import script

revision = "0015"
down_revision = "0014"

# A posting has the items and then waits for the ledger, a reversal has the ledger and then waits for the items: whoever
# holds one of the two and waits for the other would make one of them, or itself, the victim of a deadlock. So after the
# first table, this never waits while it holds one. The end of the inner block gives all of them back.
#
# The row is locked before a trigger for each row runs, so it waits for a posting that shares the row, and then sees its
# entries. (Not so in a transaction with an older snapshot: there the foreign key of the balance refuses.) TRUNCATE is
# looked at afterwards, since it may empty the ledger with the same command.
STATEMENTS = """
do $body$
declare
  deadline constant timestamptz := clock_timestamp() + interval '3 seconds';
begin
  loop
    begin
      lock table items in access exclusive mode;
      lock table locations, stock_transactions, stock_ledger, users in access exclusive mode nowait;
      exit;
    exception when lock_not_available then
      if clock_timestamp() > deadline then
        raise;
      end if;
    end;
    perform pg_sleep(0.02);
  end loop;
end $body$;

alter table stock_ledger
  drop constraint stock_ledger_item_id_fkey,
  drop constraint stock_ledger_location_id_fkey,
  drop constraint stock_ledger_transaction_id_fkey,
  drop constraint stock_ledger_user_id_fkey;

create function erp_refuse_orphans() returns trigger language plpgsql as $body$
declare
  named boolean;
begin
  if tg_op = 'TRUNCATE' then
    named := exists (select from stock_ledger);
  elsif tg_table_name = 'items' then
    named := exists (select from stock_ledger where item_id = old.id);
  else
    named := exists (select from stock_ledger where location_id = old.id);
  end if;
  if named then
    raise exception 'the ledger has entries of these %: % is refused', tg_table_name, tg_op
      using errcode = 'foreign_key_violation', table = 'stock_ledger',
        hint = 'An item or a location is deleted by setting deleted_at, as the API does.';
  end if;
  return coalesce(new, old);
end $body$;
create trigger items_named_by_ledger before delete or update of id on items
  for each row execute function erp_refuse_orphans();
create trigger items_truncated after truncate on items
  for each statement execute function erp_refuse_orphans();
create trigger locations_named_by_ledger before delete or update of id on locations
  for each row execute function erp_refuse_orphans();
create trigger locations_truncated after truncate on locations
  for each statement execute function erp_refuse_orphans();
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
