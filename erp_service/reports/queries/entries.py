"""The entries of an item by what they were for, as SQL."""

_COLUMNS = "e.location_id, e.entry_type, e.origin, e.quantity, e.value, e.occurred_at"


def _movement(entry: str) -> str:
    """The type of the movement that an entry belongs to: of a reversal that names no entry, the opposite of its own.

    Such a reversal was imported, or an earlier version posted it; then its document says so."""
    reversal = (
        f"{entry}.origin = 'REVERSAL' or {entry}.origin is null and {entry}.reason is not null and exists ("
        f"select from stock_transactions t where t.id = {entry}.transaction_id and t.reverses is not null)"
    )
    opposite = f"case {entry}.entry_type when 'IN' then 'OUT' else 'IN' end"
    return (
        f"case when {entry}.entry_type in ('IN', 'OUT') and {entry}.reverses_id is null and ({reversal})"
        f" then {opposite} else {entry}.entry_type end"
    )


def entries_since(item: str, moment: str) -> str:
    """The entries of an item that occurred at the moment or later, with `kind`: what they were for.

    The balances say at which locations the item can have moved, and a change of value is at none. So the entries are
    found by the index over item, location and time, however long the ledger is.

    A reversal is of the kind of what it reverses, at the end of the chain if that is a reversal too."""
    # in a case, since almost all entries are of movements that were posted as such
    original = f"""case when e.reverses_id is not null then (
      with recursive chain as (
        select l.* from stock_ledger l where l.id = e.reverses_id
        union all
        select l.* from chain c join stock_ledger l on l.id = c.reverses_id
      )
      select array[{_movement("c")}, c.origin] from chain c where c.reverses_id is null
    ) when e.origin is not null or e.reason is not null then array[{_movement("e")}, e.origin] end"""  # noqa: S608 constants
    return f"""
    select e.*, case
        when e.quantity = 0 then 'revalued'
        when e.entry_type in ('TRANSFER_IN', 'TRANSFER_OUT') then 'transferred'
        when e.original[2] = 'ASSEMBLY' then 'assembled'
        else case coalesce(e.original[1], e.entry_type)
          when 'IN' then 'received' when 'OUT' then 'issued' else 'adjusted' end
      end as kind
    from (
      select {_COLUMNS}, {original} as original
        from stock_balances b join stock_ledger e on e.item_id = b.item_id and e.location_id = b.location_id
        where b.item_id = {item} and e.occurred_at >= {moment}
      union all
      select {_COLUMNS}, null from stock_ledger e
        where e.item_id = {item} and e.location_id is null and e.occurred_at >= {moment}
    ) e"""  # noqa: S608 arguments of ours
