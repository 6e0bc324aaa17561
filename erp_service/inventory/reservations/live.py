"""Which reservations hold anything at this moment, as SQL; for exports too, which load no library for it.

One that has expired reads the same before and after it is ended (expiry.py): its status, `ended_at` and version."""

# statement_timestamp: now() is that of the transaction, which may have waited for a lock since; clock_timestamp() is
# volatile, so no index would be used for it
EXPIRED = "r.status = 'ACTIVE' and r.expires_at <= statement_timestamp()"
"""Whether the reservation `r` has expired and was not ended yet."""

STATUS = f"case when {EXPIRED} then 'EXPIRED' else r.status end"
ENDED_AT = f"case when {EXPIRED} then r.expires_at else r.ended_at end"
VERSION = f"r.version + case when {EXPIRED} then 1 else 0 end"


def live_reserved(balance: str) -> str:
    """What reservations that have not expired hold of a balance; `balance` is the name or alias of stock_balances.

    Nothing is looked up where nothing is reserved."""
    return (
        f"case when {balance}.reserved = 0 then 0 else {balance}.reserved - coalesce((select sum(r.quantity)"  # noqa: S608
        f" from stock_reservations r where r.item_id = {balance}.item_id and r.location_id = {balance}.location_id"
        f" and {EXPIRED}), 0) end"
    )
