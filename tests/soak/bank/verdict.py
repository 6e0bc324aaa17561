"""What must hold after the faults: each answer that a client got is in the ledger exactly once, and nothing else is."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from tests.soak import verdict
from tests.soak.bank.books import Books
from tests.soak.bank.clients import STOCK, StockClient
from tests.soak.fleet import Fleet

_SHOWN = 5

Key = TypeVar("Key")


async def judge(fleet: Fleet, client: StockClient, books: Books) -> list[str]:
    entries, faults = await _ledger(client)
    faults += await _late_effects(books, entries)
    faults += _entries(books, entries)
    faults += await _documents(fleet, books)
    faults += _keys(books, entries)
    faults += await _sums(fleet, books)
    faults += await _reservations(fleet, books)
    faults += await _counts(fleet, books)
    faults += await verdict.sealed(fleet)
    return faults + await verdict.verified(fleet.settings)


async def _ledger(client: StockClient) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Every entry of the ledger by its id, as a client reads it; and faults."""
    entries: dict[int, dict[str, Any]] = {}
    faults: list[str] = []
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        if (body := await client.read(f"{STOCK}/ledger", sort="id", limit=500, **more)) is None:
            return entries, [*faults, "the ledger cannot be read"]
        faults += [f"entry {entry['id']} is listed twice" for entry in body["items"] if entry["id"] in entries]
        entries |= {entry["id"]: entry for entry in body["items"]}
        if (cursor := body["next_cursor"]) is None:
            return entries, faults


def _entries(books: Books, entries: dict[int, dict[str, Any]]) -> list[str]:
    """Each entry that was answered is there as it was answered, in all its fields, and there is no other."""
    answered: dict[int, dict[str, Any]] = {}
    faults = []
    for document in books.documents.values():
        for entry in document.entries:
            said = {name: value for name, value in entry.items() if name != "settlement"}
            if said["id"] in answered:
                faults.append(f"entry {said['id']} was answered twice")
            answered[said["id"]] = said
    faults += _differ("entries", answered, entries)
    return faults


async def _documents(fleet: Fleet, books: Books) -> list[str]:
    rows = await fleet.look("select id::text from stock_transactions")
    return _differ("documents", dict.fromkeys(books.documents), {row["id"]: None for row in rows})


async def _late_effects(books: Books, entries: dict[int, dict[str, Any]]) -> list[str]:
    """A request whose client hung up may have waited somewhere, and be carried out after its retry was refused. So the
    last word of a refused request that has an effect is the answer to one more retry: that of its document."""
    faults = []
    for key in books.refusals.keys() & _documents_by_key(entries).keys():
        answer = await books.refusals[key].again()
        if answer is None or not answer.is_success or "Idempotency-Replayed" not in answer.headers:
            faults.append(f"request {key} was refused, and has an effect: {answer and answer.text}")
            continue
        books.add_document(key, answer.json(), books.refusals[key].body)
        books.counts["requests that were carried out after their retry was refused"] += 1
    return faults


def _keys(books: Books, entries: dict[int, dict[str, Any]]) -> list[str]:
    """Each key has one document, that of its answer."""
    answered = {document.key: {document.id} for document in books.documents.values()}
    return _differ("keys with an effect", answered, _documents_by_key(entries))


def _documents_by_key(entries: dict[int, dict[str, Any]]) -> dict[str, set[str]]:
    documents: dict[str, set[str]] = {}
    for entry in entries.values():
        # a reversal and a count state their key as the reason; their settlements have another
        if entry["origin"] != "SETTLEMENT":
            documents.setdefault(entry["notes"] or entry["reason"], set()).add(entry["transaction_id"])
    return documents


async def _sums(fleet: Fleet, books: Books) -> list[str]:
    """What was answered adds up to what is on hand, and to what it is worth."""
    said = [entry for document in books.documents.values() for entry in document.entries]
    balances = _sum(((entry["item_id"], entry["location_id"]), entry["quantity"]) for entry in said)
    quantities = _sum((entry["item_id"], entry["quantity"]) for entry in said)
    values = _sum((entry["item_id"], entry["value"]) for entry in said)
    rows = await fleet.look("select item_id, location_id, on_hand from stock_balances where on_hand <> 0")
    faults = _differ("balances", balances, {(row["item_id"], row["location_id"]): row["on_hand"] for row in rows})
    rows = await fleet.look("select item_id, on_hand, value from stock_values")
    faults += _differ("quantities of items", quantities, {r["item_id"]: r["on_hand"] for r in rows if r["on_hand"]})
    return faults + _differ("values of items", values, {r["item_id"]: r["value"] for r in rows if r["value"]})


def _sum(amounts: Iterable[tuple[Key, str]]) -> dict[Key, Decimal]:
    """Those that are not zero."""
    sums: dict[Key, Decimal] = {}
    for key, amount in amounts:
        sums[key] = sums.get(key, Decimal(0)) + Decimal(amount)
    return {key: number for key, number in sums.items() if number}


async def _reservations(fleet: Fleet, books: Books) -> list[str]:
    """Active are exactly those that were acknowledged, and neither used up nor released, and have not expired."""
    rows = await fleet.look(
        "select id::text, status, quantity, original_quantity, expires_at, expires_at <= now() as is_past"
        " from stock_reservations"
    )
    stored = {row["id"]: row for row in rows}
    faults = _differ("reservations", dict.fromkeys(books.reservations), dict.fromkeys(stored))
    for reservation in books.reservations.values():
        if (row := stored.get(reservation.id)) is None:
            continue
        past = {"EXPIRED"} if row["is_past"] else set()
        if not reservation.left:
            expected = {"USED"}
        elif reservation.is_released:
            # one that has expired is released in vain
            expected = {"RELEASED", *past}
        else:
            expected = past or {"ACTIVE"}
        status = "EXPIRED" if row["status"] == "ACTIVE" and row["is_past"] else row["status"]
        said = (reservation.left, reservation.original, datetime.fromisoformat(reservation.expires_at))
        if status not in expected or said != (row["quantity"], row["original_quantity"], row["expires_at"]):
            faults.append(f"a reservation should be {expected}: {reservation}, {row}")
    return faults


async def _counts(fleet: Fleet, books: Books) -> list[str]:
    rows = await fleet.look(
        "select c.id::text, l.code, c.status, c.transaction_id::text, coalesce(c.differences, 0) as differences"
        " from stock_counts c join locations l on l.id = c.location_id"
    )
    said = {
        one.id: (one.location, one.status, one.transaction_id, one.differing if one.status == "POSTED" else 0)
        for one in books.stock_counts.values()
    }
    faults = _differ("counts", said, {row["id"]: tuple(row)[1:] for row in rows})
    lines = Counter(
        document.id for document in books.documents.values() for e in document.entries if e["origin"] == "COUNT"
    )
    faults += [
        f"count {one.id} has {one.differing} differences, and its document {lines[one.transaction_id]}"
        for one in books.stock_counts.values()
        if one.transaction_id is not None and lines[one.transaction_id] != one.differing
    ]
    return faults


def _differ(what: str, answered: dict[Any, Any], stored: dict[Any, Any]) -> list[str]:
    faults = []
    if lost := answered.keys() - stored.keys():
        faults.append(f"{what}: {len(lost)} were answered, and are not there: {list(lost)[:_SHOWN]}")
    if more := stored.keys() - answered.keys():
        faults.append(f"{what}: {len(more)} are there that nobody was told of: {list(more)[:_SHOWN]}")
    other = [key for key in answered.keys() & stored.keys() if answered[key] != stored[key]]
    if other:
        shown = [f"{key}: answered {answered[key]}, there is {stored[key]}" for key in other[:_SHOWN]]
        faults.append(f"{what}: {len(other)} are not as they were answered: {shown}")
    return faults
