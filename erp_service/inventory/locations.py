"""Creating, replacing and deleting locations, and the tree they form; each change with its audit entry.

Locks are taken in one order: the location's own row, then the tree, then balances by item. The row is locked FOR NO
KEY UPDATE. That conflicts with postings (FOR SHARE), but not with the foreign key check of another location that is
moved below this one (FOR KEY SHARE). So two moves that cross conflict at the tree's lock only, where one of them waits,
and cannot deadlock.
"""

from typing import NamedTuple

from sqlalchemy import Integer, func, insert, literal, select, update

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db import locks
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault
from erp_service.inventory.models import Item, Location, StockBalance
from erp_service.inventory.problems import LocationHasChildren, LocationHasStock, NegativeStock
from erp_service.inventory.queries.locations import LOCATION_COLUMNS
from erp_service.inventory.schemas import LocationBody, LocationOut

DEEPEST = 20  # levels of the tree; reports and forms that walk it need a bound
_LISTED = 20  # rows that a refusal lists; a member of it counts all of them


async def create(db: WriteSession, who: Principal, body: LocationBody) -> LocationOut:
    """Raises errors.Invalid for the parent. The database refuses a code that exists: problems.CodeTaken."""
    if body.parent_id is not None:
        await lock_tree(db)
        await _check_parent(db, None, body.parent_id)
    statement = insert(Location).values(**_values(body)).returning(*LOCATION_COLUMNS)
    location = LocationOut(*(await db.execute(statement)).one())
    await record(db, who, "location.created", location.id, after=location)
    return location


async def lock_for_update(db: WriteSession, location_id: int) -> LocationOut:
    """The location. Nobody else changes it or posts stock there before the transaction ends.

    Raises errors.NotFound."""
    statement = select(*LOCATION_COLUMNS).where(Location.id == location_id, Location.deleted_at.is_(None))
    if (row := (await db.execute(statement.with_for_update(key_share=True))).one_or_none()) is None:
        raise errors.NotFound(f"There is no location {location_id}.")
    return LocationOut(*row)


async def replace(db: WriteSession, who: Principal, before: LocationOut, body: LocationBody) -> LocationOut:
    """Set every field that a client may write. `before` is the locked location.

    If nothing changes, nothing is written: version and audit log stay as they are. Raises errors.Invalid for the
    parent; NegativeStock if negative stock is no longer allowed but there is some."""
    values = _values(body)
    if all(getattr(before, name) == value for name, value in values.items()):
        return before
    if body.parent_id is not None and body.parent_id != before.parent_id:
        await lock_tree(db)
        await _check_parent(db, before.id, body.parent_id)
    if body.allow_negative_stock != before.allow_negative_stock:
        await _allow_negative(db, before, allow=body.allow_negative_stock)
    statement = update(Location).where(Location.id == before.id)
    statement = statement.values(**values, version=Location.version + 1, updated_at=func.now())
    after = LocationOut(*(await db.execute(statement.returning(*LOCATION_COLUMNS))).one())
    await record(db, who, "location.updated", after.id, before=before, after=after)
    return after


async def delete(db: WriteSession, who: Principal, before: LocationOut) -> None:
    """Mark the location as deleted. `before` is the locked location. Row and code stay, since the ledger names them.

    Raises LocationHasStock, LocationHasChildren."""
    await lock_tree(db)
    await _refuse_stock(db, before)
    await _refuse_children(db, before)
    statement = update(Location).where(Location.id == before.id)
    statement = statement.values(version=Location.version + 1, updated_at=func.now(), deleted_at=func.now())
    after = LocationOut(*(await db.execute(statement.returning(*LOCATION_COLUMNS))).one())
    await record(db, who, "location.deleted", after.id, before=before, after=after)


async def lock_tree(db: WriteSession) -> None:
    """Nobody else creates, moves or deletes a location within the tree before the transaction ends.

    Without this lock, two moves that cross would each find no cycle, and would form one together."""
    await locks.take(db, locks.LOCATION_TREE)


async def _check_parent(db: WriteSession, location_id: int | None, parent_id: int) -> None:
    """Raises errors.Invalid unless `parent_id` is an undeleted location, not below `location_id`, and not too deep."""
    above = select(Location.id, Location.parent_id, literal(1, Integer).label("depth"))
    above_cte = above.where(Location.id == parent_id, Location.deleted_at.is_(None)).cte("above", recursive=True)
    further = select(Location.id, Location.parent_id, above_cte.c.depth + 1)
    above_cte = above_cte.union_all(further.where(Location.id == above_cte.c.parent_id, above_cte.c.depth <= DEEPEST))
    ancestors = list(await db.scalars(select(above_cte.c.id)))
    if not ancestors:
        raise errors.Invalid(None, Fault("is not the id of a location", pointer="/parent_id"))
    if location_id in ancestors:
        raise errors.Invalid(None, Fault("is this location itself, or a part of it", pointer="/parent_id"))
    if len(ancestors) + await _height(db, location_id) > DEEPEST:
        raise errors.Invalid(None, Fault(f"is too deep: locations nest up to {DEEPEST} levels", pointer="/parent_id"))


async def _height(db: WriteSession, location_id: int | None) -> int:
    """Levels of the tree from the location downwards, itself included. A new location (None) has one."""
    if location_id is None:
        return 1
    tree = select(Location.id, literal(1, Integer).label("depth")).where(Location.id == location_id)
    tree_cte = tree.cte("below", recursive=True)
    further = select(Location.id, tree_cte.c.depth + 1).where(Location.parent_id == tree_cte.c.id)
    tree_cte = tree_cte.union_all(further.where(Location.deleted_at.is_(None), tree_cte.c.depth <= DEEPEST))
    return int(await db.scalar(select(func.max(tree_cte.c.depth))))


async def _allow_negative(db: WriteSession, location: LocationOut, *, allow: bool) -> None:
    """Set the balances' copies of the flag, which their check constraint reads. Raises NegativeStock."""
    # locked first, in the order in which postings lock: an UPDATE alone locks rows in whatever order it meets them
    await db.execute(
        select(StockBalance.item_id)
        .where(StockBalance.location_id == location.id)
        .order_by(StockBalance.item_id)
        .with_for_update()
    )
    if not allow and (negative := await _stock(db, location, below_zero=True)):
        raise NegativeStock(
            f"Stock of {_counted(negative.items, 'item')} is below zero at {location.code}.",
            items=negative.items,
            stock=negative.stock,
        )
    await db.execute(update(StockBalance).where(StockBalance.location_id == location.id).values(allows_negative=allow))


async def _refuse_stock(db: WriteSession, location: LocationOut) -> None:
    if present := await _stock(db, location):
        raise LocationHasStock(
            f"There is stock of {_counted(present.items, 'item')} here.", items=present.items, stock=present.stock
        )


class _Stock(NamedTuple):
    """The stock at a location: how many items have some, and the first of them with what is on hand."""

    items: int
    stock: list[dict[str, object]]


async def _stock(db: WriteSession, location: LocationOut, *, below_zero: bool = False) -> _Stock | None:
    """What is at the location, or only what is below zero there; None if there is nothing."""
    on_hand = StockBalance.on_hand
    statement = (
        select(Item.id, Item.sku, on_hand, func.count().over())
        .join(StockBalance, StockBalance.item_id == Item.id)
        .where(StockBalance.location_id == location.id, on_hand < 0 if below_zero else on_hand != 0)
        .order_by(Item.id)
        .limit(_LISTED)
    )
    if not (rows := await db.execute(statement)):
        return None
    return _Stock(rows[0][3], [{"item_id": id_, "sku": sku, "on_hand": quantity} for id_, sku, quantity, _ in rows])


async def _refuse_children(db: WriteSession, location: LocationOut) -> None:
    statement = (
        select(Location.id, Location.code, func.count().over())
        .where(Location.parent_id == location.id, Location.deleted_at.is_(None))
        .order_by(Location.id)
        .limit(_LISTED)
    )
    if rows := await db.execute(statement):
        count = rows[0][2]
        raise LocationHasChildren(
            f"{_counted(count, 'location')} {'is' if count == 1 else 'are'} part of it.",
            locations=count,
            children=[{"location_id": id_, "location": code} for id_, code, _ in rows],
        )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _values(body: LocationBody) -> dict[str, object]:
    return {name: getattr(body, name) for name in body.__struct_fields__}
