"""What the service has acknowledged: documents with their entries, reservations, counts. Held against the database
afterwards."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
from msgspec import Struct

from tests.soak.clients import Ledger


class Paper(Struct, frozen=True):
    """An acknowledged document. `key` is the Idempotency-Key of its request, which its entries state too."""

    id: str
    key: str
    entries: list[dict[str, Any]]


class Refusal(Struct, frozen=True):
    """A request that was refused; `again` sends it once more."""

    body: dict[str, Any]
    again: Callable[[], Awaitable[httpx.Response | None]]


class Hold(Struct):
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


class Tally(Struct):
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
        self.papers: dict[str, Paper] = {}
        self.holds: dict[str, Hold] = {}
        self.tallies: dict[str, Tally] = {}
        self.refusals: dict[str, Refusal] = {}
        """Requests to post that were refused, by their keys."""

    def add_document(self, key: str, document: dict[str, Any], body: dict[str, Any]) -> Paper:
        """As it was answered to `body`; or the entry of a movement that is a document of its own, with its
        settlement."""
        if (entries := document.get("entries")) is None:
            settlement = document.pop("settlement")
            entries = [document] if settlement is None else [document, settlement]
        paper = Paper(document["transaction_id"], key, entries)
        if paper.id in self.papers:
            self.faults.append(f"document {paper.id} was given for two requests: {key}, {self.papers[paper.id].key}")
        self.papers[paper.id] = paper
        for line in body.get("movements", [body]):
            if (reservation_id := line.get("reservation_id")) is not None:
                self.holds[reservation_id].taken += Decimal(line["quantity"])
        return paper

    def add_holds(self, reservations: list[dict[str, Any]]) -> list[Hold]:
        holds = [
            Hold(one["id"], one["sku"], one["location"], Decimal(one["original_quantity"]), one["expires_at"])
            for one in reservations
        ]
        for hold in holds:
            if hold.id in self.holds:
                self.faults.append(f"reservation {hold.id} was given for two requests")
            self.holds[hold.id] = hold
        return holds
