"""Creating, replacing, deleting and restoring locations, and the tree they form; each change with its audit entry.

Locks are taken in one order: the location's own row, and with it the rows of the locations in it if they are to show a
new code, all by id, as postings lock them; then the tree, then balances by item. Rows are locked FOR NO KEY UPDATE.
That conflicts with postings (FOR SHARE), but not with the foreign key check of another location that is moved below
this one (FOR KEY SHARE). So two moves that cross conflict at the tree's lock only, where one of them waits, and cannot
deadlock.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Integer, and_, func, insert, literal, or_, select, update
from sqlalchemy.orm import aliased

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db import locks
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault
from erp_service.inventory.models import Item, Location, StockBalance
from erp_service.inventory.problems import LocationHasChildren, LocationHasStock, NegativeStock, NoPlaceInTree
from erp_service.inventory.queries.locations import LOCATION_COLUMNS
from erp_service.inventory.reservations.queries import live_reserved
from erp_service.inventory.schemas import LocationBody, LocationOut

_RESERVED = live_reserved()
DEEPEST = 20  # levels of the tree; reports and forms that walk it need a bound
_LISTED = 20  # rows that a refusal lists; a member of it counts all of them


async def create(db: WriteSession, who: Principal, body: LocationBody) -> LocationOut:
    """Raises errors.Invalid for the parent. The database refuses a code that exists: problems.CodeTaken; an external id
    that another location has: ExternalIdTaken."""
    parent_id = await _parent_id(db, body)
    if parent_id is not None:
        await lock_tree(db)
        await _check_parent(db, None, parent_id, body)
    statement = insert(Location).values(_values(body, parent_id)).returning(*LOCATION_COLUMNS)
    location = LocationOut(*(await db.execute(statement)).one())
    await record(db, who, "location.created", location.id, after=location)
    return location


async def lock_for_update(
    db: WriteSession, location_id: int, *, include_deleted: bool = False, new_code: str | None = None
) -> LocationOut:
    """The location. Nobody else changes it or posts stock there before the transaction ends.

    If `new_code` is another than its own, the locations in it are locked as well. Raises errors.NotFound."""
    own = Location.id == location_id
    if not include_deleted:
        own = and_(own, Location.deleted_at.is_(None))
    if new_code is not None:
        here = aliased(Location)
        changes = select(here.id).where(here.id == location_id, here.code != new_code).exists()
        own = or_(own, and_(Location.parent_id == location_id, changes))
    statement = select(*LOCATION_COLUMNS).where(own).order_by(Location.id).with_for_update(key_share=True)
    for row in await db.execute(statement):
        if row.id == location_id:
            return LocationOut(*row)
    raise errors.NotFound(f"There is no location {location_id}.")


async def replace(db: WriteSession, who: Principal, before: LocationOut, body: LocationBody) -> LocationOut:
    """Set every field that a client may write. `before` is the locked location.

    If nothing changes, nothing is written: version and audit log stay as they are. Raises errors.Invalid for the
    parent; NegativeStock if negative stock is no longer allowed but there is some."""
    parent_id = await _parent_id(db, body)
    own = set(body.__struct_fields__) - {"parent", "parent_id"}
    if parent_id == before.parent_id and all(getattr(before, name) == getattr(body, name) for name in own):
        return before
    values = _values(body, parent_id)
    if body.code != before.code:
        await _show_new_code(db, before)
    if parent_id is not None and parent_id != before.parent_id:
        await lock_tree(db)
        await _check_parent(db, before.id, parent_id, body)
    if body.allow_negative_stock != before.allow_negative_stock:
        await _allow_negative(db, before, allow=body.allow_negative_stock)
        if not body.allow_negative_stock:
            values["history_from"] = _end_of_history(before)
    return await _write(db, who, "location.updated", before, values)


async def delete(db: WriteSession, who: Principal, before: LocationOut) -> None:
    """Mark the location as deleted. `before` is the locked location. Row and code stay, since the ledger names them.

    Raises LocationHasStock, LocationHasChildren."""
    await lock_tree(db)
    await _refuse_stock(db, before)
    await _refuse_children(db, before)
    await _write(db, who, "location.deleted", before, {"deleted_at": func.now()})


async def restore(db: WriteSession, who: Principal, before: LocationOut) -> LocationOut:
    """Undo `delete`, where it was in the tree. `before` is the locked location; one that is not deleted stays as it is.

    Raises NoPlaceInTree. The database refuses an external id that another location has taken meanwhile:
    ExternalIdTaken; and a code from before texts were normalised: LooksAlike."""
    if before.deleted_at is None:
        return before
    if before.parent_id is not None:
        await lock_tree(db)
        ancestors = await _ancestors(db, before.parent_id)
        if not ancestors:
            raise NoPlaceInTree(f"{before.parent}, which {before.code} was a part of, is deleted.")
        if len(ancestors) >= DEEPEST:
            raise NoPlaceInTree(f"{before.parent} is on the last of {DEEPEST} levels.")
    return await _write(db, who, "location.restored", before, {"deleted_at": None})


async def _write(
    db: WriteSession, who: Principal, action: str, before: LocationOut, values: Mapping[str, object]
) -> LocationOut:
    statement = update(Location).where(Location.id == before.id)
    statement = statement.values(**values, version=Location.version + 1, updated_at=func.now())
    after = LocationOut(*(await db.execute(statement.returning(*LOCATION_COLUMNS))).one())
    await record(db, who, action, after.id, before=before, after=after)
    return after


async def lock_tree(db: WriteSession) -> None:
    """Nobody else creates, moves or deletes a location within the tree before the transaction ends.

    Without this lock, two moves that cross would each find no cycle, and would form one together."""
    await locks.take(db, locks.LOCATION_TREE)


async def _parent_id(db: WriteSession, body: LocationBody) -> int | None:
    """The id of the parent that the body names. Raises errors.Invalid if it names none that is there, or two."""
    if body.parent is None:
        return body.parent_id
    statement = select(Location.id).where(Location.code == body.parent, Location.deleted_at.is_(None))
    if (parent_id := await db.scalar(statement)) is None:
        raise errors.Invalid(None, Fault("is not the code of a location", pointer="/parent"))
    if body.parent_id not in (None, parent_id):
        raise errors.Invalid(None, Fault("is not the location that parent_id names", pointer="/parent"))
    return int(parent_id)


async def _check_parent(db: WriteSession, location_id: int | None, parent_id: int, body: LocationBody) -> None:
    """Raises errors.Invalid unless `parent_id` is an undeleted location, not below `location_id`, and not too deep."""
    pointer = "/parent_id" if body.parent is None else "/parent"
    ancestors = await _ancestors(db, parent_id)
    if not ancestors:
        raise errors.Invalid(None, Fault("is not the id of a location", pointer=pointer))
    if location_id in ancestors:
        raise errors.Invalid(None, Fault("is this location itself, or a part of it", pointer=pointer))
    if len(ancestors) + await _height(db, location_id) > DEEPEST:
        raise errors.Invalid(None, Fault(f"is too deep: locations nest up to {DEEPEST} levels", pointer=pointer))


async def _ancestors(db: WriteSession, location_id: int) -> list[int]:
    """The ids of the location and of all above it; none if it is deleted or is not there."""
    above = select(Location.id, Location.parent_id, literal(1, Integer).label("depth"))
    above_cte = above.where(Location.id == location_id, Location.deleted_at.is_(None)).cte("above", recursive=True)
    further = select(Location.id, Location.parent_id, above_cte.c.depth + 1)
    above_cte = above_cte.union_all(further.where(Location.id == above_cte.c.parent_id, above_cte.c.depth <= DEEPEST))
    return list(await db.scalars(select(above_cte.c.id)))


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
            f"Stock of {_counted(negative.items, 'item')} is below zero or below what is reserved at {location.code}.",
            items=negative.items,
            stock=negative.stock,
        )
    await db.execute(update(StockBalance).where(StockBalance.location_id == location.id).values(allows_negative=allow))


def _end_of_history(location: LocationOut) -> ColumnElement[datetime]:
    """Since when no moment may have had negative stock, once it is not allowed any more.

    Nobody posts here any more, and no balance is below zero. So that holds from this moment on; but movements may be
    dated some minutes ahead of it, in any order, and only after the last of them is what is on hand now."""
    last = select(func.max(StockBalance.last_occurred_at)).where(StockBalance.location_id == location.id)
    return func.greatest(func.clock_timestamp(), last.scalar_subquery())


async def _show_new_code(db: WriteSession, location: LocationOut) -> None:
    """The locations in it show its code, so they change as well: a client asks by their ETag whether they did."""
    statement = update(Location).where(Location.parent_id == location.id)
    await db.execute(statement.values(version=Location.version + 1, updated_at=func.now()))


async def _refuse_stock(db: WriteSession, location: LocationOut) -> None:
    if present := await _stock(db, location):
        raise LocationHasStock(
            f"Stock of {_counted(present.items, 'item')} is on hand or reserved here.",
            items=present.items,
            stock=present.stock,
        )


class _Stock(NamedTuple):
    """The stock at a location: how many items have some, and the first of them with what is on hand."""

    items: int
    stock: list[dict[str, object]]


async def _stock(db: WriteSession, location: LocationOut, *, below_zero: bool = False) -> _Stock | None:
    """What is on hand or reserved at the location, or only what is below zero, or below what is reserved; None if there
    is nothing."""
    on_hand = StockBalance.on_hand
    statement = (
        select(Item.id, Item.sku, on_hand, _RESERVED, func.count().over())
        .join(StockBalance, StockBalance.item_id == Item.id)
        .where(
            StockBalance.location_id == location.id,
            on_hand < StockBalance.reserved if below_zero else or_(on_hand != 0, _RESERVED != 0),
        )
        .order_by(Item.id)
        .limit(_LISTED)
    )
    if not (rows := await db.execute(statement)):
        return None
    stock: list[dict[str, object]] = [
        {"item_id": id_, "sku": sku, "on_hand": quantity, "reserved": held} for id_, sku, quantity, held, _ in rows
    ]
    return _Stock(rows[0][4], stock)


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


def _values(body: LocationBody, parent_id: int | None) -> dict[str, object]:
    values: dict[str, object] = {name: getattr(body, name) for name in body.__struct_fields__}
    del values["parent"]
    return values | {"parent_id": parent_id, "extra": values.pop("metadata")}
