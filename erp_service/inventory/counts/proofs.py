"""What must hold of counts at any time."""

from erp_service.registry.proofs import Proof

PROOFS = (
    Proof(
        "counts",
        "the document of a posted count books exactly its differences, at its location, and each count that the audit"
        " log says was posted has that document",
        """
        with differences as (
          select c.id as count_id, c.transaction_id, c.location_id, n.item_id, n.document_line,
            n.counted - n.expected as difference
          from stock_counts c join stock_count_lines n on n.count_id = c.id
          where c.status = 'POSTED' and (n.counted <> n.expected or n.document_line is not null)
        ), booked as (
          select c.id as count_id, e.transaction_id, e.location_id, e.item_id, e.line, e.quantity
          from stock_counts c join stock_ledger e on e.transaction_id = c.transaction_id and e.origin = 'COUNT'
        ), lines as (
          select d.count_id, d.item_id, d.difference, b.quantity as booked, b.transaction_id,
            case
              when b.item_id is null then 'it was not booked'
              when b.location_id <> d.location_id then 'it was booked at another location'
              when b.line <> d.document_line or d.document_line is null then 'it is another line of the document'
              when b.quantity <> d.difference then 'something else was booked'
            end as fault
          from differences d left join booked b on b.count_id = d.count_id and b.item_id = d.item_id
        )
        select * from lines where fault is not null
        union all
        select b.count_id, b.item_id, null, b.quantity, b.transaction_id, 'the count has no such difference'
        from booked b left join differences d on d.count_id = b.count_id and d.item_id = b.item_id
        where d.item_id is null
        union all
        select c.id, null, null, null, c.transaction_id, 'the number of its differences is another'
        from stock_counts c
        where c.status = 'POSTED' and c.differences <> (
            select count(*) from stock_count_lines n where n.count_id = c.id and n.counted <> n.expected
          )
        union all
        select a.entity_id::uuid, null, null, null, c.transaction_id, 'the audit log names another document of it'
        from audit_log a left join stock_counts c on c.id::text = a.entity_id
        where a.action = 'count.posted' and (
            c.status is distinct from 'POSTED' or c.transaction_id::text is distinct from a.after ->> 'transaction_id'
          )
        union all
        select c.id, null, null, null, c.transaction_id, 'its document has entries that are not of a count'
        from stock_counts c
        where exists (
          select from stock_ledger e where e.transaction_id = c.transaction_id
            and coalesce(e.origin, '') not in ('COUNT', 'SETTLEMENT')
        )
        """,
    ),
)
