"""What must hold of the ledger and its balances at any time."""

from erp_service.registry.proofs import Proof

PROOFS = (
    Proof(
        "balances",
        "what is on hand, and its value, are the sums of the ledger",
        """
        select item_id, location_id, b.on_hand, l.quantity as ledger_quantity, b.value, l.value as ledger_value
        from stock_balances b full join (
          select item_id, location_id, sum(quantity) as quantity, sum(value) as value
          from stock_ledger group by item_id, location_id
        ) l using (item_id, location_id)
        where b.on_hand is distinct from coalesce(l.quantity, 0) or b.value is distinct from coalesce(l.value, 0)
        """,
    ),
    Proof(
        "chain",
        "each entry continues from the state after the entry before it of the same item at the same location",
        """
        select id, item_id, location_id, on_hand_before, quantity, on_hand_after, value_before, value, value_after
        from (
          select id, item_id, location_id, quantity, value, on_hand_after, value_after,
            coalesce(lag(on_hand_after) over balance, 0) as on_hand_before,
            coalesce(lag(value_after) over balance, 0) as value_before
          from stock_ledger window balance as (partition by item_id, location_id order by id)
        ) e
        where on_hand_after <> on_hand_before + quantity or value_after <> value_before + value
        """,
    ),
    Proof(
        "references",
        "each entry names an item, a location and a document that exist, and the user of its document",
        """
        select e.id, e.item_id, e.location_id, e.transaction_id, e.user_id, concat_ws(', ',
            case when i.id is null then 'there is no such item' end,
            case when l.id is null then 'there is no such location' end,
            case when t.id is null then 'there is no such document' end,
            case when t.id is not null and e.user_id is distinct from t.user_id then 'another user posted it' end
          ) as fault
        from stock_ledger e
        left join items i on i.id = e.item_id
        left join locations l on l.id = e.location_id
        left join stock_transactions t on t.id = e.transaction_id
        where i.id is null or l.id is null or t.id is null or e.user_id is distinct from t.user_id
        """,
    ),
    Proof(
        "transfers",
        "the transfers of a document bring in as much of an item as they take out, in quantity and in value",
        """
        select transaction_id, item_id, sum(quantity) as quantity, sum(value) as value
        from stock_ledger where entry_type in ('TRANSFER_IN', 'TRANSFER_OUT')
        group by transaction_id, item_id having sum(quantity) <> 0 or sum(value) <> 0
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
        "empty balances",
        "a balance with nothing on hand has the value zero",
        "select item_id, location_id, on_hand, value from stock_balances where on_hand = 0 and value <> 0",
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
