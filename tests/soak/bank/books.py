"""What the service has acknowledged: documents with their entries, reservations, counts. Held against the database
afterwards."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
from msgspec import Struct

from tests.soak.clients import Ledger


class Document(Struct, frozen=True):
    """An acknowledged document. `key` is the Idempotency-Key of its request, which its entries state too."""

    id: str
    key: str
    entries: list[dict[str, Any]]


class Refusal(Struct, frozen=True):
    """A request that was refused; `again` sends it once more."""

    body: dict[str, Any]
    again: Callable[[], Awaitable[httpx.Response | None]]


class Reservation(Struct):
    """An acknowledged reservation, and what was acknowledged of it since."""

    id: str
    sku: str
    location: str
    original: Decimal
    expires_at: str
    is_released: bool = False
    taken: Decimal = Decimal(0)
    """What OUTs that name it took, from it and beyond it."""

    @property
    def left(self) -> Decimal:
        # in whichever order the OUTs came: each takes what is held first
        return max(self.original - self.taken, Decimal(0))


class StockCount(Struct):
    """An acknowledged count."""

    id: str
    location: str
    status: str = "OPEN"
    transaction_id: str | None = None
    differing: int = 0


class Books(Ledger):
    """Everything that the service acknowledged to all clients."""

    def __init__(self) -> None:
        super().__init__()
        self.documents: dict[str, Document] = {}
        self.reservations: dict[str, Reservation] = {}
        self.stock_counts: dict[str, StockCount] = {}
        self.refusals: dict[str, Refusal] = {}
        """Requests to post that were refused, by their keys."""

    def add_document(self, key: str, answer: dict[str, Any], body: dict[str, Any]) -> Document:
        """The answer to `body`: a document, or the entry of a movement that is one, with its settlement."""
        if (entries := answer.get("entries")) is None:
            settlement = answer.pop("settlement")
            entries = [answer] if settlement is None else [answer, settlement]
        document = Document(answer["transaction_id"], key, entries)
        if (other := self.documents.get(document.id)) is not None:
            self.faults.append(f"document {document.id} was given for two requests: {key}, {other.key}")
        self.documents[document.id] = document
        for line in body.get("movements", [body]):
            if (reservation_id := line.get("reservation_id")) is not None:
                self.reservations[reservation_id].taken += Decimal(line["quantity"])
        return document

    def add_reservations(self, answers: list[dict[str, Any]]) -> list[Reservation]:
        reservations = [
            Reservation(one["id"], one["sku"], one["location"], Decimal(one["original_quantity"]), one["expires_at"])
            for one in answers
        ]
        for reservation in reservations:
            if reservation.id in self.reservations:
                self.faults.append(f"reservation {reservation.id} was given for two requests")
            self.reservations[reservation.id] = reservation
        return reservations
