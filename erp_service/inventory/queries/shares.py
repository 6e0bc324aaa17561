"""What stock at one location is worth: its share of the item's value. SQL for lists, reports and exports alike.

A share is on_hand × V / Q of the item, rounded half away from zero to money. What rounding leaves goes to the location
with the most on hand, of several to the one with the lowest id. So the shares of all locations add up to V, exactly,
now and at every earlier moment. While Q is zero and V is not, as between movements that were dated back, that location
has all of V. Where nothing is on hand comes last: while Q is below zero, zero would be the most.

The texts are one line without `$`, so that COPY can run them. Their arguments are SQL: the id of an item, a moment."""

# With 20 more decimals the quotient cannot be taken for one that rounds the other way: unless it lies exactly between
# two amounts, it is 1 / (2 * 10^4 * 10^18) or more away from there.
_PORTION = "coalesce(round(on_hand * round(item_value, 20) / nullif(item_on_hand, 0), 4), 0)"


def unit_value(value: str, on_hand: str) -> str:
    """The value of one, from what all of the item is worth."""
    return f"trim_scale(round(round({value}, 20) / nullif({on_hand}, 0), 6))"


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


def shares(levels: str, by: str = "") -> str:
    """The rows of `levels` with `value`, their share. `by`: the columns that tell items, or moments, apart."""
    rows = f"partition by {by}" if by else ""
    order = "order by on_hand = 0, on_hand desc, location_id"
    return (
        f"select p.*, portion + case when location_id = first_value(location_id) over ({rows} {order})"  # noqa: S608
        f" then item_value - sum(portion) over ({rows}) else 0 end as value"
        f" from (select levels.*, {_PORTION} as portion from ({levels}) levels) p"
    )
