"""Creating, replacing, deleting and restoring items; each change with its audit entry, in the caller's transaction."""

from collections.abc import Iterator, Mapping

from sqlalchemy import exists, func, insert, or_, select, text, update

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db.sessions import WriteSession
from erp_service.errors import Fault
from erp_service.inventory.models import Item, Location, StockBalance, StockEntry
from erp_service.inventory.problems import DecimalsStay, ItemHasStock, UnitStays
from erp_service.inventory.queries.items import ITEM_COLUMNS, item_of
from erp_service.inventory.reservations.queries import live_reserved
from erp_service.inventory.schemas import ItemBody, ItemOut

_RESERVED = live_reserved()
_LISTED = 20  # locations that a refusal lists; its member `locations` counts all of them


async def create(db: WriteSession, who: Principal, body: ItemBody) -> ItemOut:
    """The database refuses a sku that exists, also that of a deleted item: problems.SkuTaken; a barcode or an external
    id that another item has: BarcodeTaken, ExternalIdTaken. Raises errors.Invalid for the packs."""
    _check_packs(body)
    statement = insert(Item).values(_values(body)).returning(*ITEM_COLUMNS)
    item = item_of(*(await db.execute(statement)).one())
    await record(db, who, "item.created", item.id, after=item)
    return item


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

    If nothing changes, nothing is written: version and audit log stay as they are. Raises errors.Invalid for the packs;
    UnitStays; DecimalsStay."""
    _check_packs(body)
    if all(getattr(before, name) == getattr(body, name) for name in body.__struct_fields__):
        return before
    if body.unit != before.unit:
        await _refuse_entries(db, before)
    if body.decimals < before.decimals:
        await _refuse_finer(db, before, body.decimals)
    return await _write(db, who, "item.updated", before, _values(body))


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


def pack_faults(body: ItemBody) -> Iterator[Fault]:
    """The packs whose name is that of the item's unit, or of an earlier pack."""
    names = {body.unit}
    for index, pack in enumerate(body.units):
        if pack.unit in names:
            same = "is the item's own unit" if pack.unit == body.unit else "is the name of another pack"
            yield Fault(f"{pack.unit} {same}", pointer=f"/units/{index}/unit")
        names.add(pack.unit)


def _check_packs(body: ItemBody) -> None:
    if faults := list(pack_faults(body)):
        raise errors.Invalid(None, *faults)


async def _refuse_entries(db: WriteSession, item: ItemOut) -> None:
    """A posting that had the item's row before this transaction has committed, so its entries are seen here."""
    if await db.scalar(select(exists().where(StockEntry.item_id == item.id))):
        raise UnitStays(f"{item.sku} has ledger entries in {item.unit}, so its unit stays.", unit=item.unit)


async def _refuse_finer(db: WriteSession, item: ItemOut, decimals: int) -> None:
    """Nobody posts meanwhile: a posting reads `decimals` under the lock of the item's row."""
    least = await db.scalar(_FINEST, {"item_id": item.id})
    if least is not None and least > decimals:
        raise DecimalsStay(f"{item.sku} has quantities with {least} decimals.", least=least)


# of what was posted, of what is held, and of what is counted and not posted yet
_FINEST = text("""
select greatest(
  (select max(min_scale(quantity)) from stock_ledger where item_id = :item_id),
  (select max(min_scale(quantity)) from stock_reservations where item_id = :item_id and status = 'ACTIVE'),
  (select max(min_scale(l.counted)) from stock_count_lines l join stock_counts c on c.id = l.count_id
    where l.item_id = :item_id and c.status = 'OPEN')
)
""")


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


def _values(body: ItemBody) -> dict[str, object]:
    values = {name: getattr(body, name) for name in body.__struct_fields__}
    values["extra"] = values.pop("metadata")
    return values
