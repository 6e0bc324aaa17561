"""Creating, replacing, deleting and restoring items; each change with its audit entry, in the caller's transaction."""

from collections.abc import Mapping

from sqlalchemy import func, or_, select, update

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.errors import Refused
from erp_service.inventory.item_changes import ItemChange, apply
from erp_service.inventory.models import Item, Location, StockBalance
from erp_service.inventory.problems import ItemHasStock
from erp_service.inventory.queries.items import ITEM_COLUMNS, item_of
from erp_service.inventory.reservations.queries import live_reserved
from erp_service.inventory.schemas import ItemBody, ItemOut

_RESERVED = live_reserved()
_LISTED = 20  # locations that a refusal lists; its member `locations` counts all of them


async def create(db: WriteSession, who: Principal, body: ItemBody) -> ItemOut:
    """Raises what `item_changes.apply` refuses with; SkuTaken also for the sku of a deleted item."""
    return await _applied(db, who, ItemChange(None, body))


async def lock_for_update(db: WriteSession, item_id: int, *, include_deleted: bool = False) -> ItemOut:
    """The item. Nobody else changes it or posts stock of it before the transaction ends.

    A posting locks the item's row FOR SHARE. Either it has committed when this returns, and later reads see its
    stock; or it waits for this transaction, and sees the item deleted. Raises errors.NotFound."""
    statement = select(*ITEM_COLUMNS).where(Item.id == item_id).with_for_update()
    if not include_deleted:
        statement = statement.where(Item.deleted_at.is_(None))
    if (row := (await db.execute(statement)).one_or_none()) is None:
        raise errors.NotFound(f"There is no item {item_id}.")
    return item_of(*row)


async def replace(db: WriteSession, who: Principal, before: ItemOut, body: ItemBody) -> ItemOut:
    """Set every field that a client may write. `before` is the locked item.

    If nothing changes, nothing is written: version and audit log stay as they are. Raises what `item_changes.apply`
    refuses with."""
    return await _applied(db, who, ItemChange(before, body))


async def _applied(db: WriteSession, who: Principal, change: ItemChange) -> ItemOut:
    (outcome,) = await apply(db, who, [change])
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


async def delete(db: WriteSession, who: Principal, before: ItemOut) -> None:
    """Mark the item as deleted. `before` is the locked item. Row and sku stay, since the ledger names them.

    Raises ItemHasStock."""
    await _refuse_stock(db, before)
    await _write(db, who, "item.deleted", before, {"deleted_at": func.now()})


async def restore(db: WriteSession, who: Principal, before: ItemOut) -> ItemOut:
    """Undo `delete`. `before` is the locked item; one that is not deleted stays as it is.

    The database refuses a barcode or an external id that another item has taken meanwhile: BarcodeTaken,
    ExternalIdTaken; and a sku from before texts were normalised: LooksAlike."""
    if before.deleted_at is None:
        return before
    return await _write(db, who, "item.restored", before, {"deleted_at": None})


async def _write(
    db: WriteSession, who: Principal, action: str, before: ItemOut, values: Mapping[str, object]
) -> ItemOut:
    statement = update(Item).where(Item.id == before.id)
    statement = statement.values(**values, version=Item.version + 1, updated_at=func.now())
    after = item_of(*(await db.execute(statement.returning(*ITEM_COLUMNS))).one())
    await record(db, who, action, after.id, before=before, after=after)
    return after


async def _refuse_stock(db: WriteSession, item: ItemOut) -> None:
    statement = (
        select(Location.id, Location.code, StockBalance.on_hand, _RESERVED, func.count().over())
        .join(StockBalance, StockBalance.location_id == Location.id)
        .where(StockBalance.item_id == item.id, or_(StockBalance.on_hand != 0, _RESERVED != 0))
        .order_by(Location.id)
        .limit(_LISTED)
    )
    if rows := await db.execute(statement):
        count = rows[0][4]
        raise ItemHasStock(
            f"Stock of {item.sku} is on hand or reserved at {count} {'location' if count == 1 else 'locations'}.",
            locations=count,
            stock=[
                {"location_id": id_, "location": code, "on_hand": on_hand, "reserved": reserved}
                for id_, code, on_hand, reserved, _ in rows
            ],
        )
