"""Ending what has expired. An expired reservation blocks nobody, whether or not a worker was there to end it: whoever
needs the stock of its balance ends it first, while that balance is locked.

Every writer of a reservation holds the lock of its balance. So the rows of reservations need no locks of their own, in
no order: what is read of them under that lock stays."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec
from sqlalchemy import text

from erp_service.access.principals import system
from erp_service.audit.record import entry_parameters, record_all
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared, number_array
from erp_service.decimals import shortest
from erp_service.inventory.posting.row_locks import Balance, BalanceKey, LockedRows
from erp_service.inventory.reservations.live import EXPIRED
from erp_service.inventory.reservations.queries import due_balances
from erp_service.observability.telemetry import log
from erp_service.registry.housekeeping import HousekeepingStep
from erp_service.registry.services import ServiceSet

BATCH = 500
MOST_SWEPT = 20_000
"""The most reservations, nearly, that one run of the housekeeping ends; the next follows in a minute."""

_WHO = system("reservations")


async def sweep(db: WriteSession, rows: LockedRows) -> None:
    """End the reservations of the locked balances that have expired; `rows` then has what is reserved without them.

    Nothing is asked where nothing is reserved."""
    for key, freed in (await _expire(db, [key for key, balance in rows.balances.items() if balance.reserved])).items():
        balance = rows.balances[key]
        rows.balances[key] = msgspec.structs.replace(balance, reserved=balance.reserved - freed)


# `ended_at` is when it stopped to hold anything, not when somebody noticed
_EXPIRE = Prepared(
    text(f"""
with keys as materialized (
  select * from unnest(
    cast(cast(:items as text) as bigint[]), cast(cast(:locations as text) as bigint[])
  ) k (item_id, location_id)
), expired as (
  update stock_reservations r set status = 'EXPIRED', ended_at = r.expires_at, version = r.version + 1
  from keys k where r.item_id = k.item_id and r.location_id = k.location_id and {EXPIRED}
  returning r.id, r.item_id, r.location_id, r.quantity, r.reference
), freed as (
  update stock_balances b set reserved = b.reserved - s.quantity
  from (select item_id, location_id, sum(quantity) as quantity from expired group by item_id, location_id) s
  where b.item_id = s.item_id and b.location_id = s.location_id
)
select e.id, e.item_id, e.location_id, e.quantity, i.sku, l.code, e.reference
from expired e join items i on i.id = e.item_id join locations l on l.id = e.location_id order by e.id
""")  # noqa: S608 a constant of live.py
)


async def _expire(db: WriteSession, keys: Iterable[BalanceKey]) -> dict[BalanceKey, Decimal]:
    """How much was freed of each of these balances, which are locked."""
    if not (keys := list(keys)):
        return {}
    columns = {
        "items": number_array([item_id for item_id, _ in keys]),
        "locations": number_array([location_id for _, location_id in keys]),
    }
    freed: dict[BalanceKey, Decimal] = {}
    entries = []
    for id_, item_id, location_id, quantity, sku, code, reference in await db.execute(_EXPIRE, columns):
        freed[item_id, location_id] = freed.get((item_id, location_id), Decimal(0)) + quantity
        before = {"sku": sku, "location": code, "quantity": shortest(quantity), "reference": reference}
        entries.append(entry_parameters(_WHO, "reservation.expired", id_, before=before))
    if entries:
        await record_all(db, entries)
    return freed


_LOCK_BALANCES = Prepared(
    text("""
select b.item_id, b.location_id, b.on_hand, b.reserved, b.allows_negative, b.last_occurred_at
from stock_balances b
join unnest(cast(cast(:items as text) as bigint[]), cast(cast(:locations as text) as bigint[]))
  k (item_id, location_id) using (item_id, location_id)
order by b.item_id, b.location_id for update of b
""")
)


async def lock_balances(db: WriteSession, keys: Iterable[BalanceKey]) -> LockedRows:
    """Balances without their items and locations: enough to end what is reserved of them. In the order of row_locks.py,
    of which it is the last part, so whoever locks more cannot deadlock with it."""
    keys = list(keys)
    columns = {
        "items": number_array([item_id for item_id, _ in keys]),
        "locations": number_array([location_id for _, location_id in keys]),
    }
    result = await db.execute(_LOCK_BALANCES, columns)
    balances = {(item_id, location_id): Balance(*state) for item_id, location_id, *state in result}
    return LockedRows({}, {}, balances, {})


async def sweep_all(database: Database, *, batch: int = BATCH) -> int:
    """End all that have expired, batch by batch, each in a transaction of its own; returns how many balances were
    swept, each counted once a batch. It may be interrupted, repeated, or run twice at the same time."""
    swept, count = 0, 1
    while count and swept < MOST_SWEPT:
        async with database.write() as db:
            keys = await due_balances(db, batch)
            await sweep(db, await lock_balances(db, keys))
        count = len(keys)
        swept += count
    if swept:
        log.info("expired reservations were ended", balances=swept)
    return swept


async def _sweep_all(services: ServiceSet) -> None:
    await sweep_all(services.find(Database))


HOUSEKEEPING = (HousekeepingStep("expired reservations", _sweep_all),)
