"""Demo stock for `erp up`: three months of a small trading company that sells coffee, tea and accessories.

The movements are the same each time on the same day, and end the day before. They are imported by the same functions
as any user's files.
"""

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, groupby
from pathlib import Path
from random import Random
from typing import TypeAlias

import msgspec
from msgspec.structs import astuple
from sqlalchemy import exists, select

from erp_service.access.principals import command
from erp_service.access.roles import Role
from erp_service.auth import users
from erp_service.auth.emails import email_key
from erp_service.auth.models import User
from erp_service.company.queries import lock_for_update
from erp_service.company.schemas import SettingsChange
from erp_service.company.service import change
from erp_service.db import locks
from erp_service.db.engine import Database
from erp_service.decimals import rounded, shortest
from erp_service.imports.service import importing, load_into
from erp_service.imports.spool import Spooled
from erp_service.inventory.models import Item

DAYS = 90
COLLEAGUE = "sam@example.com"
COMPANY = "Harbour Lane Coffee"
_NO_HASH = "!"
_FILES = Path(__file__).parent / "demo_stock"
_CUSTOMERS = ("Café Lumen", "The Corner Oven", "Hotel Avon", "Docks Canteen", "Mill Road Deli", "Studio Kestrel")
_AT_THE_TILL = ("",) * 5
_FLOOR = "SHOP-FLOOR"
_COUNTED = ("damaged", "found behind the shelf", "stock count")

Row: TypeAlias = tuple[str, ...]


class Movement(msgspec.Struct, frozen=True):
    """One row of the file of movements; its fields are the columns."""

    occurred_at: str
    type: str
    sku: str
    location: str
    quantity: str
    reference_no: str = ""
    to_location: str = ""
    unit_cost: str = ""
    reason: str = ""
    partner: str = ""


class Good(msgspec.Struct, frozen=True):
    """One row of the catalogue; `location` is the code of the location that receives its deliveries."""

    sku: str
    name: str
    unit: str
    decimals: int
    units: str
    barcode: str
    reorder_point: Decimal
    unit_cost: Decimal
    supplier: str
    location: str


async def load_demo(url: str, *, now: datetime | None = None) -> bool:
    """Load all of it in one transaction, unless the database has any item; returns whether it did."""
    who = command("erp demo")
    async with importing(url) as db:
        # if two processes start at once, the second one waits here and then finds items
        await locks.take(db, locks.DEMO)
        if await db.scalar(select(exists().where(Item.id.is_not(None)))):
            return False
        goods = catalogue()
        columns = ("sku", "name", "unit", "decimals", "units", "barcode", "reorder_point")
        items = [(g.sku, g.name, g.unit, str(g.decimals), g.units, g.barcode, shortest(g.reorder_point)) for g in goods]
        await load_into(db, "items", _file("items", columns, items), who=who)
        locations = (_FILES / "locations.csv").read_bytes()
        await load_into(db, "locations", _spooled("locations", locations), who=who)
        rows = [astuple(movement) for movement in movements(goods, now or datetime.now(UTC))]
        await load_into(db, "movements", _file("movements", Movement.__struct_fields__, rows), who=who)
        named = msgspec.convert({"company_name": COMPANY}, SettingsChange)
        await change(db, who, await lock_for_update(db), named)
    return True


async def load_colleague(database: Database) -> None:
    """A second user, whom the examples at /docs change: nobody can change their own role. Nobody can sign in as this
    one before an administrator sets a password."""
    async with database.write() as db:
        if not await db.scalar(select(exists(select(User.id).where(User.email_key == email_key(COLLEAGUE))))):
            who = command("erp demo")
            await users.create_user(
                db, who, email=COLLEAGUE, full_name="Sam Okafor", role=Role.STAFF, password_hash=_NO_HASH
            )


def catalogue() -> list[Good]:
    """The goods that the company sells."""
    with (_FILES / "catalogue.csv").open(encoding="utf-8", newline="") as file:
        return [msgspec.convert(row, Good, strict=False) for row in csv.DictReader(file)]


def _file(name: str, columns: Sequence[str], rows: Sequence[Row]) -> Spooled:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows([columns, *rows])
    return _spooled(name, content.getvalue().encode())


def _spooled(name: str, content: bytes) -> Spooled:
    digest = hashlib.sha256(content).hexdigest()
    return Spooled(io.BytesIO(content), f"demo {name}", digest, len(content), content.count(b"\n"))


def movements(goods: list[Good], now: datetime) -> Iterator[Movement]:
    """Deliveries, transfers to the shop, sales and corrections, in order of time; none makes stock negative."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    company = _Company(goods)
    for days in range(DAYS, 0, -1):
        yield from company.day(midnight - timedelta(days=days), opening=days == DAYS)


class _Company:
    """Stock by item and location, and the next number of each kind of document. The random generator has a seed."""

    def __init__(self, goods: list[Good]) -> None:
        self.goods = goods
        self.random = Random(20101201)  # noqa: S311 - demo data, not a secret
        self.stock: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self.numbers: dict[str, Iterator[int]] = defaultdict(lambda: count(1001))

    def day(self, date: datetime, *, opening: bool) -> Iterator[Movement]:
        if opening:
            yield from self.deliveries(date + timedelta(hours=6), self.goods)
            yield from self.restocking(date + timedelta(hours=7))
        if date.weekday() == 6:
            return
        if date.weekday() == 1:
            due = [good for good in self.goods if self.on_hand(good) <= good.reorder_point * 3 / 4]
            yield from self.deliveries(date + timedelta(hours=8), due)
        if date.weekday() in (2, 5):
            yield from self.restocking(date + timedelta(hours=8, minutes=30))
        for hour in sorted(self.random.sample(range(9, 18), self.random.randint(2, 4))):
            yield from self.sale(date + timedelta(hours=hour, minutes=self.random.randrange(60)))
        if date.day in (10, 20, 28):
            yield self.correction(date + timedelta(hours=18, minutes=15))

    def deliveries(self, at: datetime, goods: list[Good]) -> Iterator[Movement]:
        by_supplier = sorted(goods, key=lambda good: good.supplier)
        for supplier, group in groupby(by_supplier, key=lambda good: good.supplier):
            reference = self.reference("PO")
            for good in group:
                quantity = self.lot(good, good.reorder_point * self.random.randint(1, 3))
                cost = good.unit_cost * self.random.choice((98, 100, 100, 100, 103)) / 100
                self.stock[good.sku, good.location] += quantity
                yield Movement(
                    *(at.isoformat(), "IN", good.sku, good.location, shortest(quantity), reference),
                    unit_cost=shortest(rounded(cost, 4)),
                    partner=supplier,
                )

    def restocking(self, at: datetime) -> Iterator[Movement]:
        reference = self.reference("TR")
        for good in self.goods:
            target = self.lot(good, good.reorder_point / 2)
            quantity = min(target, self.stock[good.sku, good.location])
            # wholesale goods are not sold in the shop
            if good.location == "MAIN-B" or self.stock[good.sku, _FLOOR] > target / 3 or not quantity:
                continue
            self.stock[good.sku, good.location] -= quantity
            self.stock[good.sku, _FLOOR] += quantity
            yield Movement(
                *(at.isoformat(), "TRANSFER", good.sku, good.location, shortest(quantity), reference),
                to_location=_FLOOR,
            )

    def sale(self, at: datetime) -> Iterator[Movement]:
        customer = self.random.choice(_CUSTOMERS + _AT_THE_TILL)
        reference = self.reference("INV" if customer else "TILL")
        for good in self.random.sample(self.goods, self.random.randint(1, 4)):
            location = good.location if customer else _FLOOR
            percent = self.random.choice((20, 30, 40)) if customer else self.random.choice((4, 6, 10))
            quantity = min(self.lot(good, good.reorder_point * percent / 100), self.stock[good.sku, location])
            if quantity:
                self.stock[good.sku, location] -= quantity
                yield Movement(
                    *(at.isoformat(), "OUT", good.sku, location, shortest(quantity), reference), partner=customer
                )

    def correction(self, at: datetime) -> Movement:
        reason = self.random.choice(_COUNTED)
        good = self.random.choice([good for good in self.goods if self.stock[good.sku, good.location] > 3])
        quantity = Decimal(1 if reason.startswith("found") else -self.random.randint(1, 3))
        self.stock[good.sku, good.location] += quantity
        return Movement(
            *(at.isoformat(), "ADJUSTMENT", good.sku, good.location, shortest(quantity), self.reference("CNT")),
            reason=reason,
        )

    def on_hand(self, good: Good) -> Decimal:
        return self.stock[good.sku, good.location] + self.stock[good.sku, _FLOOR]

    def reference(self, kind: str) -> str:
        return f"{kind}-{next(self.numbers[kind])}"

    def lot(self, good: Good, quantity: Decimal) -> Decimal:
        """Rounded to whole units, or to quarters if the unit is kg or m; at least 1."""
        return max(
            Decimal(1),
            (quantity * 4).to_integral_value() / 4 if good.unit in ("kg", "m") else quantity.to_integral_value(),
        )
