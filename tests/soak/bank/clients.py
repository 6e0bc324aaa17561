"""Clients that post movements of every kind at random. What is acknowledged goes into the books."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import httpx

from tests.soak.bank import catalogue
from tests.soak.bank.books import Books, Document, Refusal, Reservation
from tests.soak.bank.catalogue import BY_SKU, ITEMS, KIT, LOCATIONS, PARTS, Item
from tests.soak.clients import Client

INVENTORY = "/api/v1/inventory"
STOCK = f"{INVENTORY}/stock"

POSTING = frozenset({"insufficient-stock", "period-closed", "cost-unknown"})
NO_VALUE_OF_NOTHING = "is a value of nothing: none is on hand"


class StockClient(Client):
    """One signed-in user, who sends requests to any instance."""

    def __init__(self, token: str, urls: Sequence[str], random: Random, books: Books) -> None:
        super().__init__(token, urls, random, books)
        self.books = books
        self.reservations: list[Reservation] = []
        """What this client reserved: nobody else extends or releases it."""

    def key(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    async def effect(
        self,
        what: str,
        path: str,
        key: str,
        body: dict[str, Any] | None,
        refusals: Collection[str],
        method: str = "POST",
    ) -> Any:
        """The answer, if the request was carried out; None if it was refused as it may be.

        Some requests are sent twice at once, to any instances, and some are sent again afterwards."""
        copies = 2 if self.random.random() < 0.08 else 1
        calls = [self.call(method, path, key=key, json=body) for _ in range(copies)]
        answers = [answer for answer in await asyncio.gather(*calls) if answer is not None]
        done = [answer for answer in answers if answer.is_success]
        if not done:
            for answer in answers:
                self.refused(what, answer, refusals)
            return None
        self.books.counts[what] += 1
        if copies == 1 and "Idempotency-Replayed" in done[0].headers:
            self.books.counts["requests that were carried out, and their first answer was lost"] += 1
        if self.random.random() < 0.08 and (again := await self.call(method, path, key=key, json=body)) is not None:
            done.append(again)
        if len(done) > 1:
            self.books.counts["requests sent again after their answer, or twice at once"] += 1
        first = done[0].json()
        if any(not answer.is_success or answer.json() != first for answer in done):
            self.books.faults.append(f"{what}, {key}: other answers to the same request: {[a.text for a in done]}")
        if sum("Idempotency-Replayed" not in answer.headers for answer in done) > 1:
            self.books.faults.append(f"{what}, {key}: carried out twice: {[a.text for a in done]}")
        return first

    def refused(self, what: str, answer: httpx.Response, refusals: Collection[str]) -> None:
        problem = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
        slug = problem.get("type", "").rpartition("/")[2]
        if what == "revaluations" and slug == "invalid" and NO_VALUE_OF_NOTHING in answer.text:
            slug = "nothing on hand"
        elif answer.status_code not in (409, 422) or slug not in refusals:
            self.books.faults.append(f"{what}: {answer.status_code} {answer.text[:500]}")
        self.books.counts[f"{what} refused: {slug}"] += 1

    async def read(self, path: str, **params: Any) -> Any:
        """The answer to a GET; None and a noted fault if it is refused."""
        answer = await self.call("GET", path, params=params)
        if answer is None or answer.is_success:
            return None if answer is None else answer.json()
        self.books.faults.append(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        return None

    async def post(
        self, what: str, path: str, key: str, body: dict[str, Any], refusals: Collection[str]
    ) -> Document | None:
        """Posts to the ledger, and writes the document down, if there is one. Of some requests the first answer is not
        waited for."""
        if self.random.random() < 0.1:
            await self._hang_up(f"{STOCK}/{path}", key, body)
        document = await self.effect(what, f"{STOCK}/{path}", key, body, refusals)
        if document is None:
            again = partial(self.call, "POST", f"{STOCK}/{path}", key=key, json=body)
            self.books.refusals[key] = Refusal(body, again)
            return None
        return self.books.add_document(key, document, body)

    async def _hang_up(self, path: str, key: str, body: dict[str, Any]) -> None:
        """Sends the request, and closes the connection before its answer comes, or throws that away."""
        url = self.random.choice(self.urls) + path
        with contextlib.suppress(httpx.TransportError):
            timeout = self.random.uniform(0.005, 0.1)
            await self.http.post(url, headers={"Idempotency-Key": key}, json=body, timeout=timeout)

    def movement(self, kind: str, key: str) -> dict[str, Any]:
        """The body of a movement of one kind, which states its key."""
        random = self.random
        item = random.choice(ITEMS)
        body = {"sku": item.sku, "notes": key, **self._occurred_at()}
        match kind:
            case "IN":
                return body | self.random_location() | catalogue.amount(random, item, 60) | catalogue.cost(random)
            case "OUT":
                return body | self.random_location() | catalogue.amount(random, item, 30)
            case "TRANSFER":
                source, target = random.sample(LOCATIONS, 2)
                locations = {"from_location": source, "to_location": target}
                return body | locations | catalogue.amount(random, item, 30)
            case "ADJUSTMENT":
                stated = catalogue.amount(random, item, 10)
                if random.random() < 0.5:
                    stated["quantity"] = f"-{stated['quantity']}"
                return body | self.random_location() | stated | {"reason": "found or missing"}
            case _:
                return body | {"reason": "another cost"} | self._revaluation(item)

    def random_location(self) -> dict[str, str]:
        return {"location": self.random.choice(LOCATIONS)}

    def _occurred_at(self) -> dict[str, str]:
        """Mostly now, which is not stated; else in the last weeks, of which some days are closed."""
        if self.random.random() > 0.25:
            return {}
        return {"occurred_at": (datetime.now(UTC) - timedelta(days=40 * self.random.random())).isoformat()}

    def _revaluation(self, item: Item) -> dict[str, str]:
        cents = f"{self.random.randrange(1, 20_000) / 100:.2f}"
        match self.random.choice(["difference", "part", "value", "unit_value"]):
            case "difference":
                return {"difference": self.random.choice(["", "-"]) + cents}
            case "part":
                return {"difference": cents} | catalogue.amount(self.random, item, 100)
            case "value":
                return {"value": cents}
            case _:
                return {"unit_value": f"{self.random.randrange(1, 10**12) / 10**10:.10f}"}

    async def receive(self) -> None:
        await self._move("receipts", "in", "IN")

    async def issue(self) -> None:
        await self._move("issues", "out", "OUT")

    async def transfer(self) -> None:
        await self._move("transfers", "transfer", "TRANSFER")

    async def adjust(self) -> None:
        await self._move("adjustments", "adjustment", "ADJUSTMENT")

    async def revalue(self) -> None:
        await self._move("revaluations", "revaluation", "REVALUATION", {"period-closed"})

    async def _move(self, what: str, path: str, kind: str, refusals: Collection[str] = POSTING) -> None:
        key = self.key()
        body = self.movement(kind, key)
        if (document := await self.post(what, path, key, body, refusals)) is None or kind == "REVALUATION":
            return
        stated = catalogue.in_unit(BY_SKU[body["sku"]], body)
        if abs(Decimal(document.entries[0]["quantity"])) != stated:
            self.books.faults.append(f"{what}: {stated} was stated in {body}, and the answer is {document.entries[0]}")

    async def assemble(self) -> None:
        key, kits = self.key(), self.random.randrange(1, 4)
        components = [{"sku": sku, "quantity": f"{kits * n:f}", **self.random_location()} for sku, n in PARTS.items()]
        body = {
            "sku": KIT.sku,
            "quantity": str(kits),
            "notes": key,
            "components": components,
            "disassemble": self.random.random() < 0.4,
            **self.random_location(),
            **self._occurred_at(),
        }
        await self.post("kits", "assembly", key, body, POSTING)

    async def document(self) -> None:
        """Several movements of any kind, all or none."""
        key, random = self.key(), self.random
        kinds = random.choices(
            ["IN", "OUT", "TRANSFER", "ADJUSTMENT", "REVALUATION"], [6, 3, 3, 1, 1], k=random.randrange(2, 7)
        )
        lines = [{"transaction_type": kind, **self.movement(kind, key)} for kind in kinds]
        # a value of what is not on hand would refuse all of it
        lines = [line for line in lines if "value" not in line]
        if lines:
            await self.post("documents", "movements", key, {"movements": lines}, POSTING)

    async def reverse(self) -> None:
        """A document that was acknowledged, whole, or one of its lines in part."""
        random, key = self.random, self.key()
        if not (documents := list(self.books.documents.values())[-60:]):
            return
        document = random.choice(documents)
        body: dict[str, Any] = {"reason": key}
        what = "reversals"
        if random.random() < 0.6 and (line := self._part_of(document)) is not None:
            body["lines"] = [line]
            what = "reversals in part"
        if random.random() < 0.2:
            body["occurred_at"] = max(entry["occurred_at"] for entry in document.entries)
        refusals = POSTING | {"already-reversed"}
        await self.post(what, f"transactions/{document.id}/reverse", key, body, refusals)

    def _part_of(self, document: Document) -> dict[str, Any] | None:
        entries = [entry for entry in document.entries if entry["origin"] != "SETTLEMENT"]
        if not entries:
            return None
        entry = self.random.choice(entries)
        whole = abs(Decimal(entry["quantity"]))
        if not whole or self.random.random() < 0.2:
            return {"line": entry["line"]}
        return {"line": entry["line"], "quantity": f"{catalogue.part(self.random, BY_SKU[entry['sku']], whole):f}"}
