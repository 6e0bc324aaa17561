"""Demo stock for `erp up`: three months of a small trading company that sells coffee, tea and what belongs to them.

The same every time on the same day: the story ends the day before. It is imported as anybody's files are.
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

from erp_service.access.principals import system
from erp_service.db import locks
from erp_service.decimals import rounded, shortest
from erp_service.imports.service import importing, load_into
from erp_service.imports.spool import Spooled
from erp_service.inventory.models import Item

DAYS = 90
_STOCK = Path(__file__).parent / "demo_stock"
_CUSTOMERS = ("Café Lumen", "The Corner Oven", "Hotel Avon", "Docks Canteen", "Mill Road Deli", "Studio Kestrel")
_AT_THE_TILL = ("",) * 5
_FLOOR = "SHOP-FLOOR"
_COUNTED = ("damaged", "found behind the shelf", "stock count")

Row: TypeAlias = tuple[str, ...]


class Movement(msgspec.Struct, frozen=True):
    """One line of the file of movements; its fields are the columns."""

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
    """One line of the catalogue; `place` is where deliveries of it go."""

    sku: str
    name: str
    unit: str
    reorder_point: Decimal
    unit_cost: Decimal
    supplier: str
    place: str


async def load_demo(url: str, *, now: datetime | None = None) -> bool:
    """Load it all, in one transaction, unless there is any item; whether it did."""
    who = system("erp demo")
    async with importing(url) as db:
        # two that start at once: the second waits, and then finds items
        await locks.take(db, locks.DEMO)
        if await db.scalar(select(exists().where(Item.id.is_not(None)))):
            return False
        goods = catalogue()
        items = [(g.sku, g.name, g.unit, shortest(g.reorder_point)) for g in goods]
        await load_into(db, "items", _file("items", ("sku", "name", "unit", "reorder_point"), items), who=who)
        places = (_STOCK / "locations.csv").read_bytes()
        await load_into(db, "locations", _spooled("locations", places), who=who)
        rows = [astuple(movement) for movement in movements(goods, now or datetime.now(UTC))]
        await load_into(db, "movements", _file("movements", Movement.__struct_fields__, rows), who=who)
    return True


def catalogue() -> list[Good]:
    """What the company sells."""
    with (_STOCK / "catalogue.csv").open(encoding="utf-8", newline="") as file:
        return [msgspec.convert(row, Good, strict=False) for row in csv.DictReader(file)]


def _file(name: str, columns: Sequence[str], rows: Sequence[Row]) -> Spooled:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([columns, *rows])
    return _spooled(name, written.getvalue().encode())


def _spooled(name: str, content: bytes) -> Spooled:
    digest = hashlib.sha256(content).hexdigest()
    return Spooled(io.BytesIO(content), f"demo {name}", digest, len(content), content.count(b"\n"))


def movements(goods: list[Good], now: datetime) -> Iterator[Movement]:
    """Deliveries, moves to the shop, sales and corrections, in order of time; nothing is sold that is not there."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    company = _Company(goods)
    for days in range(DAYS, 0, -1):
        yield from company.day(midnight - timedelta(days=days), opening=days == DAYS)


class _Company:
    """What is where, and the next number of each kind of paper; chance is seeded, so it comes out the same."""

    def __init__(self, goods: list[Good]) -> None:
        self.goods = goods
        self.chance = Random(20101201)  # noqa: S311 - a story, not a secret
        self.stock: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self.papers: dict[str, Iterator[int]] = defaultdict(lambda: count(1001))

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
        for hour in sorted(self.chance.sample(range(9, 18), self.chance.randint(2, 4))):
            yield from self.sale(date + timedelta(hours=hour, minutes=self.chance.randrange(60)))
        if date.day in (10, 20, 28):
            yield self.correction(date + timedelta(hours=18, minutes=15))

    def deliveries(self, at: datetime, goods: list[Good]) -> Iterator[Movement]:
        by_supplier = sorted(goods, key=lambda good: good.supplier)
        for supplier, ordered in groupby(by_supplier, key=lambda good: good.supplier):
            paper = self.paper("PO")
            for good in ordered:
                quantity = self.lot(good, good.reorder_point * self.chance.randint(1, 3))
                cost = good.unit_cost * self.chance.choice((98, 100, 100, 100, 103)) / 100
                self.stock[good.sku, good.place] += quantity
                yield Movement(
                    *(at.isoformat(), "IN", good.sku, good.place, shortest(quantity), paper),
                    unit_cost=shortest(rounded(cost, 4)),
                    partner=supplier,
                )

    def restocking(self, at: datetime) -> Iterator[Movement]:
        paper = self.paper("TR")
        for good in self.goods:
            wanted = self.lot(good, good.reorder_point / 2)
            quantity = min(wanted, self.stock[good.sku, good.place])
            # wholesale goods stay where they are
            if good.place == "MAIN-B" or self.stock[good.sku, _FLOOR] > wanted / 3 or not quantity:
                continue
            self.stock[good.sku, good.place] -= quantity
            self.stock[good.sku, _FLOOR] += quantity
            yield Movement(
                *(at.isoformat(), "TRANSFER", good.sku, good.place, shortest(quantity), paper), to_location=_FLOOR
            )

    def sale(self, at: datetime) -> Iterator[Movement]:
        customer = self.chance.choice(_CUSTOMERS + _AT_THE_TILL)
        paper = self.paper("INV" if customer else "TILL")
        for good in self.chance.sample(self.goods, self.chance.randint(1, 4)):
            place = good.place if customer else _FLOOR
            part = self.chance.choice((20, 30, 40)) if customer else self.chance.choice((4, 6, 10))
            quantity = min(self.lot(good, good.reorder_point * part / 100), self.stock[good.sku, place])
            if quantity:
                self.stock[good.sku, place] -= quantity
                yield Movement(*(at.isoformat(), "OUT", good.sku, place, shortest(quantity), paper), partner=customer)

    def correction(self, at: datetime) -> Movement:
        reason = self.chance.choice(_COUNTED)
        good = self.chance.choice([good for good in self.goods if self.stock[good.sku, good.place] > 3])
        quantity = Decimal(1 if reason.startswith("found") else -self.chance.randint(1, 3))
        self.stock[good.sku, good.place] += quantity
        return Movement(
            *(at.isoformat(), "ADJUSTMENT", good.sku, good.place, shortest(quantity), self.paper("CNT")), reason=reason
        )

    def on_hand(self, good: Good) -> Decimal:
        return self.stock[good.sku, good.place] + self.stock[good.sku, _FLOOR]

    def paper(self, kind: str) -> str:
        return f"{kind}-{next(self.papers[kind])}"

    def lot(self, good: Good, quantity: Decimal) -> Decimal:
        """Whole ones, and at least one; of what is weighed or measured, to the quarter."""
        return max(
            Decimal(1),
            (quantity * 4).to_integral_value() / 4 if good.unit in ("kg", "m") else quantity.to_integral_value(),
        )
