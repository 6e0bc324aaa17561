"""What must hold of the ledger, its balances and its values at any time."""

from erp_service.registry.proofs import Proof

PROOFS = (
    Proof(
        "balances",
        "what is on hand of an item at a location is the sum of the ledger",
        """
        select item_id, location_id, b.on_hand, l.quantity as ledger_quantity
        from stock_balances b full join (
          select item_id, location_id, sum(quantity) as quantity
          from stock_ledger where location_id is not null group by item_id, location_id
        ) l using (item_id, location_id)
        where coalesce(b.on_hand, 0) <> coalesce(l.quantity, 0) or b.item_id is null
        """,
    ),
    Proof(
        "values",
        "what is on hand of an item over all locations, and its value, are the sums of the ledger",
        """
        select item_id, v.on_hand, l.quantity as ledger_quantity, v.value, l.value as ledger_value
        from stock_values v full join (
          select item_id, sum(quantity) as quantity, sum(value) as value from stock_ledger group by item_id
        ) l using (item_id)
        -- an item that was only transferred has no value yet
        where coalesce(v.on_hand, 0) <> coalesce(l.quantity, 0) or coalesce(v.value, 0) <> coalesce(l.value, 0)
        """,
    ),
    Proof(
        "signs",
        "what is on hand is worth zero or more, nothing is worth nothing, and less than nothing is worth no more",
        """
        select item_id, on_hand, value from stock_values
        where case sign(on_hand) when 1 then value < 0 when 0 then value <> 0 else value > 0 end
        """,
    ),
    Proof(
        "chain",
        "each entry continues from what was on hand after the entry before it of the same item at the same location",
        """
        select id, item_id, location_id, on_hand_before, quantity, on_hand_after
        from (
          select id, item_id, location_id, quantity, on_hand_after,
            coalesce(lag(on_hand_after) over balance, 0) as on_hand_before
          from stock_ledger where location_id is not null
          window balance as (partition by item_id, location_id order by id)
        ) e
        where on_hand_after is distinct from on_hand_before + quantity
        """,
    ),
    Proof(
        "chain of values",
        "each entry that is no transfer states the sums of the item's entries up to it",
        """
        select id, item_id, quantity_so_far, item_on_hand_after, value_so_far, value_after
        from (
          select id, item_id, item_on_hand_after, value_after,
            sum(quantity) over effects as quantity_so_far, sum(value) over effects as value_so_far
          from stock_ledger where entry_type not in ('TRANSFER_IN', 'TRANSFER_OUT')
          window effects as (partition by item_id order by id)
        ) e
        where item_on_hand_after is not null
          and (item_on_hand_after <> quantity_so_far or value_after is distinct from value_so_far)
        """,
    ),
    Proof(
        "chain of values by location",
        "each entry from before values were kept by item continues from the value after the one before it there",
        """
        select id, item_id, location_id, value_before, value, value_after
        from (
          select id, item_id, location_id, value, value_after,
            coalesce(lag(value_after) over balance, 0) as value_before
          from stock_ledger where item_on_hand_after is null and value_after is not null
          window balance as (partition by item_id, location_id order by id)
        ) e
        where value_after <> value_before + value
        """,
    ),
    Proof(
        "form",
        "a transfer has no value, all else says what the item is worth after it, and only a change of that is nowhere",
        """
        select id, transaction_id, entry_type, location_id, quantity, value, unit_cost, origin, concat_ws(', ',
            case when not form then 'it says too little of the item, or too much' end,
            case when not place then 'it is nowhere' end,
            case when not cost then 'its unit cost has more than 10 decimals, or is below zero' end,
            case when not origin_known then 'its origin is unknown' end
          ) as fault
        from (
          select *,
            case
              -- from before values were kept by item
              when item_on_hand_after is null and value_after is not null then true
              when entry_type in ('TRANSFER_IN', 'TRANSFER_OUT')
                then value = 0 and value_after is null and item_on_hand_after is null
              else value_after is not null and item_on_hand_after is not null
            end as form,
            (location_id is null) = (on_hand_after is null) and (location_id is not null or quantity = 0) as place,
            coalesce(unit_cost >= 0 and unit_cost < 1e18 and scale(unit_cost) <= 10, true) as cost,
            coalesce(origin in ('REVERSAL', 'COUNT', 'ASSEMBLY', 'REVALUATION', 'SETTLEMENT'), true) as origin_known
          from stock_ledger
        ) e
        where not (form and place and cost and origin_known)
        """,
    ),
    Proof(
        "references",
        "each entry names an item, a location and a document that exist, and the user of its document",
        """
        select e.id, e.item_id, e.location_id, e.transaction_id, e.user_id, concat_ws(', ',
            case when i.id is null then 'there is no such item' end,
            case when e.location_id is not null and l.id is null then 'there is no such location' end,
            case when t.id is null then 'there is no such document' end,
            case when t.id is not null and e.user_id is distinct from t.user_id then 'another user posted it' end
          ) as fault
        from stock_ledger e
        left join items i on i.id = e.item_id
        left join locations l on l.id = e.location_id
        left join stock_transactions t on t.id = e.transaction_id
        where i.id is null or (e.location_id is not null and l.id is null) or t.id is null
          or e.user_id is distinct from t.user_id
        """,
    ),
    Proof(
        "transfers",
        "the transfers of a document bring in as much of an item as they take out, and change no value",
        """
        select transaction_id, item_id, sum(quantity) as quantity, sum(value) as value
        from stock_ledger where entry_type in ('TRANSFER_IN', 'TRANSFER_OUT')
        group by transaction_id, item_id having sum(quantity) <> 0 or sum(value) <> 0
        """,
    ),
    Proof(
        "reversals",
        "an entry is reversed by entries of the same item and the other sign, up to what it was and no further",
        """
        select e.id, e.item_id, e.quantity, sum(r.quantity) as reversed, count(*) as entries
        from stock_ledger r left join stock_ledger e on e.id = r.reverses_id
        where r.reverses_id is not null
        group by e.id, e.item_id, e.quantity
        having e.id is null or bool_or(r.item_id <> e.item_id or r.id <= e.id or r.quantity * e.quantity > 0)
          or abs(sum(r.quantity)) > abs(e.quantity) or (e.quantity = 0 and count(*) > 1)
        """,
    ),
    Proof(
        "negative stock",
        "stock is below zero only where the location allows it",
        """
        select item_id, location_id, on_hand
        from stock_balances b join locations l on l.id = b.location_id
        where on_hand < 0 and not l.allow_negative_stock
        """,
    ),
    Proof(
        "negative stock in the past",
        "at no moment was stock below zero where the location did not allow it",
        """
        select item_id, location_id, occurred_at, on_hand
        from (
          select e.item_id, e.location_id, e.occurred_at, l.history_from,
            sum(sum(e.quantity)) over (partition by e.item_id, e.location_id order by e.occurred_at) as on_hand
          from stock_ledger e join locations l on l.id = e.location_id
          where not l.allow_negative_stock
          group by e.item_id, e.location_id, e.occurred_at, l.history_from
        ) moments
        where on_hand < 0 and occurred_at >= coalesce(history_from, '-infinity')
        """,
    ),
    Proof(
        "last times",
        "each balance knows the time of its latest entry, if it knows any",
        """
        select item_id, location_id, b.last_occurred_at, l.occurred_at
        from stock_balances b join (
          select item_id, location_id, max(occurred_at) as occurred_at from stock_ledger group by item_id, location_id
        ) l using (item_id, location_id)
        where b.last_occurred_at < l.occurred_at
        """,
    ),
    Proof(
        "closed periods",
        "no entry was recorded in a closed period after it was closed",
        """
        select e.id, e.occurred_at, e.recorded_at, c.closed_through
        from company c join stock_ledger e
          on e.occurred_at < (c.closed_through + 1)::timestamp at time zone c.timezone and e.recorded_at > c.closed_at
        """,
    ),
    Proof(
        "flags",
        "each balance has the negative-stock flag of its location",
        """
        select item_id, location_id, allows_negative, l.allow_negative_stock
        from stock_balances b join locations l on l.id = b.location_id
        where b.allows_negative <> l.allow_negative_stock
        """,
    ),
)
