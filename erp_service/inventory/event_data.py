"""What the events of stock say: of which items, where, and how much, so that a reader need not ask for each of them."""

from erp_service.registry.event_data import EventData

MOST_LINES = 100
"""Entries of a document that its event shows; `entry_count` counts all."""

_DOCUMENT = f"""
  select json_build_object(
    'reverses', a.after -> 'reverses',
    'entry_count', (select count(*) from stock_ledger e where e.transaction_id = a.entity_id::uuid),
    'entries', (
      select json_agg(json_build_object(
        'id', e.id, 'item_id', e.item_id, 'location_id', e.location_id, 'transaction_type', e.entry_type,
        'quantity', trim_scale(e.quantity)::text, 'on_hand_after', trim_scale(e.on_hand_after)::text
      ) order by e.line, e.id)
      from (
        select * from stock_ledger e where e.transaction_id = a.entity_id::uuid order by e.line, e.id limit {MOST_LINES}
      ) e
    )
  )
"""  # noqa: S608 a constant

_RESERVATION = """
  select json_build_object('item_id', r.item_id, 'location_id', r.location_id)
  from stock_reservations r where r.id = a.entity_id::uuid
"""

EVENT_DATA = (
    EventData(("stock.posted", "stock.reversed"), _DOCUMENT),
    EventData(("reservation.expired",), _RESERVATION),
)
