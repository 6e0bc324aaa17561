"""How the shop hears of its stock: by following the events, and by a webhook."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.acceptance.shop_api import Api, Unanswered
from tests.support.waiting import eventually

STOCK_TYPES = ("stock.posted", "stock.reversed")
WAIT_SECONDS = 20
PAGE = 200


class StockView:
    """What is on hand by item, as the events say. They must come in the order of their positions."""

    def __init__(self) -> None:
        self.on_hand: dict[int, str] = {}

    def apply(self, event: Mapping[str, Any]) -> None:
        entries = event["data"]["entries"]
        assert len(entries) == event["data"]["entry_count"], "the shop's documents are short"
        for entry in entries:
            self.on_hand[entry["item_id"]] = entry["on_hand_after"]

    def not_zero(self) -> dict[int, str]:
        return {item_id: quantity for item_id, quantity in self.on_hand.items() if Decimal(quantity)}


class EventFollower:
    """Reads GET /events from the position where it began, for ever."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.first = self.last = 0
        self.events: list[dict[str, Any]] = []
        self.view = StockView()
        self.faults: list[str] = []

    async def start_here(self) -> None:
        self.first = self.last = (await self._read("latest", wait=0))["last_position"]

    async def follow(self) -> None:
        while True:
            try:
                page = await self._read(self.last, wait=WAIT_SECONDS)
            except Unanswered as exc:
                self.faults.append(str(exc))
                return
            for event in page["items"]:
                if event["position"] <= self.last:
                    self.faults.append(f"event {event['position']} came after {self.last}")
                self.last = event["position"]
                self.events.append(event)
                if event["type"] in STOCK_TYPES:
                    self.view.apply(event)
            self.last = page["last_position"]

    async def differences(self, on_hand: Mapping[int, str]) -> list[str]:
        """After the last change: wait for what is on its way, then hold against the stock and a second reading."""
        # what is missing afterwards is named below
        with contextlib.suppress(AssertionError):
            await eventually(self._has_everything, seconds=60)
        faults = []
        if self.view.not_zero() != on_hand:
            faults.append(f"by events the stock is another: {different(self.view.not_zero(), on_hand)}")
        again: list[dict[str, Any]] = []
        position = self.first
        while position < self.last:
            page = await self._read(position, wait=0)
            again += [event for event in page["items"] if event["position"] <= self.last]
            position = page["last_position"]
        if again != self.events:
            faults.append(
                f"read again there are {len(again)} events, and they are not the {len(self.events)} of before"
            )
        return faults

    async def _has_everything(self) -> bool:
        page = await self._read("latest", wait=0)
        return bool(page["last_position"] <= self.last)

    async def _read(self, after: int | str, *, wait: int) -> dict[str, Any]:
        query = {"after": after, "wait": wait, "limit": PAGE}
        answer = await self.api.call("listEvents", query=query)
        return answer.json()  # type: ignore[no-any-return]


class WebhookReceiver:
    """A small HTTP server, as a shop has one. It checks signatures, and sometimes answers 500."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.received: list[tuple[str, dict[str, Any]]] = []
        """The `webhook-id` and the event of each delivery that was answered with 204."""
        self.refused = 0
        self._requests = 0
        self._port = 0
        self._webhook: Webhook | None = None

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def register(self, api: Api) -> None:
        body = {"url": f"http://127.0.0.1:{self._port}/stock", "types": list(STOCK_TYPES)}
        answer = await api.call("createWebhook", body)
        self._webhook = Webhook(answer.json()["secret"])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                body = await reader.readexactly(int(headers["content-length"]))
                status = self._status(headers, body)
                writer.write(f"HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()

    def _status(self, headers: Mapping[str, str], body: bytes) -> int:
        self._requests += 1
        # now and then the shop has a fault of its own: the delivery must come again, some seconds later
        if self._requests % 500 == 0:
            self.refused += 1
            return 500
        if self._webhook is None:
            return 503
        try:
            self._webhook.verify(body, dict(headers))
        except WebhookVerificationError as exc:
            self.faults.append(f"a delivery whose signature is not right: {exc}")
            return 400
        self.received.append((headers["webhook-id"], json.loads(body)))
        return 204

    async def differences(self, follower: EventFollower) -> list[str]:
        """Wait for the last delivery: each event at least once, the first time in order, a repetition as before."""
        expected = [event for event in follower.events if event["type"] in STOCK_TYPES]
        last = expected[-1]["position"] if expected else 0

        async def came() -> bool:
            return any(event["position"] >= last for _, event in self.received[-50:])

        # what is missing afterwards is named below
        with contextlib.suppress(AssertionError):
            await eventually(came, seconds=120)
        first: dict[int, str] = {}
        faults = []
        view = StockView()
        for id_, event in self.received:
            position = event["position"]
            if position not in first:
                first[position] = id_
                view.apply(event)
            elif first[position] != id_:
                faults.append(f"event {position} came again under another webhook-id")
        if list(first) != [event["position"] for event in expected]:
            faults.append(f"webhooks brought {len(first)} events of {len(expected)}, or in another order")
        if view.not_zero() != follower.view.not_zero():
            faults.append(f"by webhooks the stock is another: {different(view.on_hand, follower.view.on_hand)}")
        return faults


def different(one: Mapping[int, str], other: Mapping[int, str]) -> dict[int, tuple[str | None, str | None]]:
    return {id_: (one.get(id_), other.get(id_)) for id_ in {*one, *other} if one.get(id_) != other.get(id_)}
