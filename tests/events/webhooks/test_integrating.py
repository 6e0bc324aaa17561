"""The receiver that ops/integrating.md shows, with what really arrives."""

import re
from pathlib import Path
from typing import Any

import asyncpg

from erp_service.db.engine import Database
from erp_service.events.webhooks.context import WebhookContext
from erp_service.settings import Settings
from tests.events.webhooks.endpoints import PATH, Jobs, happen, make
from tests.events.webhooks.receiving import Received, Receiver, Reply
from tests.support.clients import UserClient

PAGE = (Path(__file__).parents[3] / "ops/integrating.md").read_text()


class Store:
    def __init__(self) -> None:
        self.events: dict[str, Any] = {}

    def add_unless_known(self, id_: str, event: Any) -> None:
        self.events.setdefault(id_, event)


async def test_receiver_of_the_page_takes_each_event_once_and_nothing_that_is_forged(
    admin: UserClient, receiver: Receiver, settings: Settings, database: Database, owner: asyncpg.Connection,
    context: WebhookContext,
) -> None:  # fmt: skip
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "standardwebhooks" in block]
    made = await make(admin, receiver.url(), types=["item.updated"])
    names: dict[str, Any] = {"store": Store()}
    exec(code.replace("whsec_...", made["secret"]), names)
    receiver.answer = lambda request: Reply(answered(names, request))
    await happen(settings, database, *["item.updated"] * 3)
    jobs = Jobs(owner, context)
    assert await jobs.deliver(made)
    assert (await admin.post(f"{PATH}/{made['id']}/test")).json()["status"] == 204
    await admin.post(f"{PATH}/{made['id']}/replay", json={"from_position": 1})
    assert await jobs.deliver(made)
    assert len(receiver.requests) == 7
    assert [event["position"] for event in names["store"].events.values()] == receiver.positions[:3]
    forged = receiver.requests[0]._replace(raw=receiver.requests[1].raw)
    assert answered(names, forged) == 401


def answered(names: dict[str, Any], request: Received) -> int:
    status: int = names["receive"](request.headers, request.raw)
    return status
