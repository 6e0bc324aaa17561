"""The peer `Tryton`: stock moves of an ERP in the same language on the same Postgres, by its own ORM.

Runs in an environment of its own, with trytond and trytond_stock; tests/bench/peers/tryton.py starts it. One process,
without HTTP, JSON or access rights, as a script of an administrator would: each answer is one transaction that creates
moves from the supplier to the storage and does them, or reads the quantity of a product at the storage. Durability is
off for both.

What it does more for each move: states with their transitions, units that convert, companies and currencies, an average
cost for the company, fields that modules add, and texts for people in many languages. What it does less: a document, an
audit entry, a recorded answer, a balance that others can read without a sum.

TRYTOND_DATABASE_URI says where the database is. Commands come as lines on standard input: `moves SECONDS LINES
PRODUCTS`, `quantity SECONDS`, `fill MOVES`. The answer is a line of JSON: how many, and in how many seconds."""

import json
import os
import sys
import time
from decimal import Decimal
from typing import Any, NamedTuple

from trytond import backend
from trytond.pool import Pool
from trytond.transaction import Transaction

NAME, PRODUCTS = "tryton", 1000


class Ids(NamedTuple):
    """Who posts, and what moves refer to."""

    user: int
    company: int
    currency: int
    unit: int
    products: list[int]
    supplier: int
    storage: int


def prepare() -> Ids:
    """A database with the modules, a company, and products whose cost is the moving average."""
    database = backend.Database(NAME)
    database.connect()
    if not database.test():
        database.init()
    Pool.start()
    pool = Pool(NAME)
    pool.init(update=["stock"], lang=["en"], activatedeps=True)
    with Transaction().start(NAME, 0) as transaction:
        currency = one("currency.currency", name="Euro", code="EUR", symbol="€", rates=[("create", [{"rate": 1}])])
        party = one("party.party", name="The company")
        company = one("company.company", party=party.id, currency=currency.id)
        user = one("res.user", name="Clerk", login="clerk", companies=[("add", [company.id])], company=company.id)
        unit = pool.get("product.uom").search([("symbol", "=", "u")])[0]
        with transaction.set_context(company=company.id):
            templates = pool.get("product.template").create(
                [
                    {
                        "name": f"Item no. {n}",
                        "type": "goods",
                        "default_uom": unit.id,
                        "cost_price_method": "average",
                        "products": [("create", [{}])],
                    }
                    for n in range(PRODUCTS)
                ]
            )
        location = pool.get("stock.location")
        supplier, storage = (location.search([("code", "=", code)])[0] for code in ("SUP", "STO"))
        products = [template.products[0].id for template in templates]
        ids = Ids(user.id, company.id, currency.id, unit.id, products, supplier.id, storage.id)
        transaction.commit()
    return ids


def one(model: str, **values: object) -> Any:
    return Pool().get(model).create([values])[0]


def post(ids: Ids, lines: int, first: int, products: int) -> None:
    """One transaction: so many moves, created and done."""
    with Transaction().start(NAME, ids.user, context={"company": ids.company}) as transaction:
        move, today = Pool().get("stock.move"), Pool().get("ir.date").today()
        moves = move.create(
            [
                {
                    "product": ids.products[(first + n) % products],
                    "unit": ids.unit,
                    "quantity": 1,
                    "from_location": ids.supplier,
                    "to_location": ids.storage,
                    "planned_date": today,
                    "effective_date": today,
                    "company": ids.company,
                    "currency": ids.currency,
                    "unit_price": Decimal("2.5"),
                }
                for n in range(lines)
            ]
        )
        move.do(moves)
        transaction.commit()


def fill(ids: Ids, moves: int) -> int:
    """So many moves of the last product, all but one copied by SQL. Returns the quantity, which is the same."""
    product = ids.products[-1]
    post(ids, 1, PRODUCTS - 1, PRODUCTS)
    with Transaction().start(NAME, ids.user) as transaction, transaction.connection.cursor() as cursor:
        cursor.execute("select column_name from information_schema.columns where table_name = 'stock_move'")
        columns = ", ".join(f'"{name}"' for (name,) in cursor.fetchall() if name != "id")
        cursor.execute(
            f"insert into stock_move ({columns}) select {columns} from stock_move, generate_series(2, %s)"
            " where product = %s",
            (moves, product),
        )
        transaction.commit()
    return int(quantity(ids))


def quantity(ids: Ids) -> float:
    """Of the last product at the storage."""
    with Transaction().start(
        NAME, ids.user, context={"company": ids.company, "locations": [ids.storage]}, readonly=True
    ):
        return float(Pool().get("product.product")(ids.products[-1]).quantity)


def timed(ids: Ids, words: list[str]) -> dict[str, float]:
    count, began = 0, time.perf_counter()
    if words[0] == "fill":
        count = fill(ids, int(words[1]))
        return {"count": count, "seconds": time.perf_counter() - began}
    seconds = float(words[1])
    while time.perf_counter() - began < seconds:
        if words[0] == "moves":
            post(ids, int(words[2]), count * int(words[2]), int(words[3]))
            count += int(words[2])
        else:
            quantity(ids)
            count += 1
    return {"count": count, "seconds": time.perf_counter() - began}


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    ids = prepare()
    answers.write('{"ready": true}\n')
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(timed(ids, line.split())) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
