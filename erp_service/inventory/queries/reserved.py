"""What reservations hold, as SQL: for lists, reports and exports alike."""


def live_reserved(balance: str) -> str:
    """What reservations hold of a balance, without those that have expired. `balance` is its table's alias."""
    return f"{balance}.reserved"
