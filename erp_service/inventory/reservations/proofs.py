"""What must hold of reservations and balances at any time."""

from erp_service.registry.proofs import Proof

PROOFS = (
    Proof(
        "reservations",
        "what is reserved of a balance is the sum of its active reservations, and on hand where stock may not be"
        " negative",
        """
        select item_id, location_id, b.on_hand, b.reserved, r.quantity as active, concat_ws(', ',
            case when b.reserved is distinct from coalesce(r.quantity, 0) then 'not the sum of the reservations' end,
            case when b.reserved > b.on_hand and not b.allows_negative then 'more than is on hand' end
          ) as fault
        from stock_balances b full join (
          select item_id, location_id, sum(quantity) as quantity
          from stock_reservations where status = 'ACTIVE' group by item_id, location_id
        ) r using (item_id, location_id)
        where b.reserved is distinct from coalesce(r.quantity, 0) or b.reserved > b.on_hand and not b.allows_negative
        """,
    ),
)
