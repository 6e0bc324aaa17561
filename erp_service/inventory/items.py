"""Creating, replacing and deleting items; each change with its audit entry, in the caller's transaction."""

from sqlalchemy import exists, func, insert, select, update

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry
from erp_service.inventory.problems import ItemHasStock, UnitStays
from erp_service.inventory.queries.items import ITEM_COLUMNS
from erp_service.inventory.schemas import ItemBody, ItemOut

_LISTED = 20  # locations that a refusal lists; its member `locations` counts all of them


async def create(db: WriteSession, who: Principal, body: ItemBody) -> ItemOut:
    """The database refuses a sku that exists, also that of a deleted item: problems.SkuTaken."""
    statement = insert(Item).values(**_values(body)).returning(*ITEM_COLUMNS)
    item = ItemOut(*(await db.execute(statement)).one())
    await record(db, who, "item.created", item.id, after=item)
    return item


async def lock_for_update(db: WriteSession, item_id: int) -> ItemOut:
    """The item. Nobody else changes it or posts stock of it before the transaction ends.

    A posting locks the item's row FOR SHARE. Either it has committed when this returns, and later reads see its
    stock; or it waits for this transaction, and sees the item deleted. Raises errors.NotFound."""
    statement = select(*ITEM_COLUMNS).where(Item.id == item_id, Item.deleted_at.is_(None)).with_for_update()
    if (row := (await db.execute(statement)).one_or_none()) is None:
        raise errors.NotFound(f"There is no item {item_id}.")
    return ItemOut(*row)


async def replace(db: WriteSession, who: Principal, before: ItemOut, body: ItemBody) -> ItemOut:
    """Set every field that a client may write. `before` is the locked item.

    If nothing changes, nothing is written: version and audit log stay as they are. Raises UnitStays."""
    values = _values(body)
    if all(getattr(before, name) == value for name, value in values.items()):
        return before
    if body.unit != before.unit:
        await _refuse_entries(db, before)
    statement = update(Item).where(Item.id == before.id)
    statement = statement.values(**values, version=Item.version + 1, updated_at=func.now())
    after = ItemOut(*(await db.execute(statement.returning(*ITEM_COLUMNS))).one())
    await record(db, who, "item.updated", after.id, before=before, after=after)
    return after


async def delete(db: WriteSession, who: Principal, before: ItemOut) -> None:
    """Mark the item as deleted. `before` is the locked item. Row and sku stay, since the ledger names them.

    Raises ItemHasStock."""
    await _refuse_stock(db, before)
    statement = update(Item).where(Item.id == before.id)
    statement = statement.values(version=Item.version + 1, updated_at=func.now(), deleted_at=func.now())
    after = ItemOut(*(await db.execute(statement.returning(*ITEM_COLUMNS))).one())
    await record(db, who, "item.deleted", after.id, before=before, after=after)


async def _refuse_entries(db: WriteSession, item: ItemOut) -> None:
    """A posting that had the item's row before this transaction has committed, so its entries are seen here."""
    if await db.scalar(select(exists().where(StockEntry.item_id == item.id))):
        raise UnitStays(f"{item.sku} has ledger entries in {item.unit}, so its unit stays.", unit=item.unit)


async def _refuse_stock(db: WriteSession, item: ItemOut) -> None:
    statement = (
        select(Location.id, Location.code, StockBalance.on_hand, func.count().over())
        .join(StockBalance, StockBalance.location_id == Location.id)
        .where(StockBalance.item_id == item.id, StockBalance.on_hand != 0)
        .order_by(Location.id)
        .limit(_LISTED)
    )
    if rows := await db.execute(statement):
        count = rows[0][3]
        raise ItemHasStock(
            f"There is stock of {item.sku} at {count} {'location' if count == 1 else 'locations'}.",
            locations=count,
            stock=[{"location_id": id_, "location": code, "on_hand": on_hand} for id_, code, on_hand, _ in rows],
        )


def _values(body: ItemBody) -> dict[str, object]:
    return {name: getattr(body, name) for name in body.__struct_fields__}
