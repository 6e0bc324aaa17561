"""What stock at one location is worth: its share of the item's value. SQL for lists, reports and exports alike.

A share is on_hand × V / Q of the item, rounded half away from zero to money. What rounding leaves goes to the location
with the most on hand, of several to the one with the lowest id. So the shares of all locations add up to V, exactly,
now and at every earlier moment. While Q is zero and V is not, as between movements that were dated back, that location
has all of V. Where nothing is on hand comes last: while Q is below zero, zero would be the most.

The texts are one line without `$`, so that COPY can run them. Their arguments are SQL: the id of an item, a moment.

What is the same for all locations of an item comes in one row, of `of_item`, by a lateral join: Postgres computes it
once for each item of a page, and keeps it for the next row (Memoize)."""


def _portion(on_hand: str, item_value: str, item_on_hand: str) -> str:
    # With 20 more decimals the quotient cannot be taken for one that rounds the other way: unless it lies exactly
    # between two amounts, it is 1 / (2 * 10^4 * 10^18) or more away from there.
    return f"coalesce(round({on_hand} * round({item_value}, 20) / nullif({item_on_hand}, 0), 4), 0)"


def share(location_id: str, on_hand: str, item: str) -> str:
    """The value of what is on hand at a location; `item` is the alias of a row of `of_item`."""
    portion = _portion(on_hand, f"{item}.item_value", f"{item}.item_on_hand")
    return f"({portion} + case when {location_id} = {item}.most then {item}.rest else 0 end)"


def of_item(levels: str, more: str = "") -> str:
    """One row for an item: what is on hand of it, its value, what rounding leaves of the shares, and where that goes.

    `levels` has a row for each of its locations; `more` are further aggregates of them."""
    portion = _portion("on_hand", "item_value", "item_on_hand")
    return (
        "select max(item_value) as item_value, max(item_on_hand) as item_on_hand,"  # noqa: S608 arguments of ours
        f" max(item_value) - sum({portion}) as rest,"
        f" (array_agg(location_id order by on_hand = 0, on_hand desc, location_id))[1] as most{more} from ({levels}) l"
    )


def unit_value(value: str, on_hand: str) -> str:
    """The value of one, from what all of the item is worth, with 6 decimals; null while none is on hand."""
    return f"round(round({value}, 20) / nullif({on_hand}, 0), 6)"


def levels_now(item: str) -> str:
    """One row for each location where the item ever was: what is on hand there, and of the item over all locations."""
    return (
        "select o.location_id, o.on_hand, v.on_hand as item_on_hand, coalesce(v.value, 0) as item_value"  # noqa: S608
        " from stock_balances o left join stock_values v on v.item_id = o.item_id"
        f" where o.item_id = {item}"
    )


def levels_before(item: str, moment: str) -> str:
    """The same before a moment: what is there now without what occurred at that moment and later. So the cost grows
    with what happened since, whatever happened before."""
    since = f"e.occurred_at >= {moment}"
    return (
        "select o.location_id, o.on_hand - coalesce(later.quantity, 0) as on_hand,"  # noqa: S608 arguments of ours
        " sum(o.on_hand - coalesce(later.quantity, 0)) over () as item_on_hand,"
        f" coalesce((select v.value from stock_values v where v.item_id = {item}), 0)"
        " - sum(coalesce(later.value, 0)) over ()"
        f" - coalesce((select sum(e.value) from stock_ledger e where e.item_id = {item} and e.location_id is null"
        f" and {since}), 0) as item_value"
        " from stock_balances o left join lateral ("
        "select sum(e.quantity) as quantity, sum(e.value) as value from stock_ledger e"
        f" where e.item_id = o.item_id and e.location_id = o.location_id and {since}) later on true"
        f" where o.item_id = {item}"
    )
