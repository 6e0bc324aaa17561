"""The entries of an item by what they were for, as SQL."""

_COLUMNS = "e.location_id, e.entry_type, e.origin, e.quantity, e.value, e.occurred_at"


def entries_since(item: str, moment: str) -> str:
    """The entries of an item that occurred at the moment or later, with `kind`: what they were for.

    The balances say at which locations the item can have moved, and a change of value is at none. So the entries are
    found by the index over item, location and time, however long the ledger is.

    A reversal is of the kind of what it reverses, at the end of the chain if that is a reversal too."""
    # in a case, so that it is only looked for where there is one
    reversed_entry = """case when e.reverses_id is not null then (
      with recursive chain as (
        select l.entry_type, l.origin, l.reverses_id from stock_ledger l where l.id = e.reverses_id
        union all
        select l.entry_type, l.origin, l.reverses_id from chain c join stock_ledger l on l.id = c.reverses_id
      )
      select array[c.entry_type, c.origin] from chain c where c.reverses_id is null
    ) end"""
    return f"""
    select e.*, case
        when e.quantity = 0 then 'revalued'
        when e.entry_type in ('TRANSFER_IN', 'TRANSFER_OUT') then 'transferred'
        when 'ASSEMBLY' in (e.origin, e.reversed[2]) then 'assembled'
        else case coalesce(e.reversed[1], e.entry_type) when 'IN' then 'received' when 'OUT' then 'issued'
          else 'adjusted' end
      end as kind
    from (
      select {_COLUMNS}, {reversed_entry} as reversed
        from stock_balances b join stock_ledger e on e.item_id = b.item_id and e.location_id = b.location_id
        where b.item_id = {item} and e.occurred_at >= {moment}
      union all
      select {_COLUMNS}, null from stock_ledger e
        where e.item_id = {item} and e.location_id is null and e.occurred_at >= {moment}
    ) e"""  # noqa: S608 arguments of ours
