"""What a request must not cost: a thread, a statement that is built again, a signature that is checked again."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from sqlalchemy.sql.compiler import SQLCompiler

from tests.support.statements import sent_statements

READS = ["/api/v1/inventory/items/{item}", "/api/v1/inventory/items", "/api/v1/inventory/items?q=b&sort=-name&limit=7"]
READS += ["/api/v1/inventory/stock/current", "/api/v1/inventory/stock/ledger?item_id={item}", "/health/live"]


class Costly(Exception):
    """The request did what it must not do."""


def forbidden(what: str) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise Costly(what)

    return fail


@pytest.fixture
async def item(admin: httpx.AsyncClient) -> int:
    made = await admin.post("/api/v1/inventory/items", json={"sku": "BOLT", "name": "Bolt", "unit": "pcs"})
    assert made.status_code == 201
    return int(made.json()["id"])


async def test_read_that_entered_a_thread_built_its_statement_and_checked_the_token_each_time(
    admin: httpx.AsyncClient, item: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [path.format(item=item) for path in READS]
    before = [(await admin.get(path)).json() for path in paths]
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", forbidden("a thread"), raising=False)
    monkeypatch.setattr("anyio.to_thread.run_sync", forbidden("a thread"))
    monkeypatch.setattr(SQLCompiler, "__init__", forbidden("a statement that was compiled before"))
    monkeypatch.setattr(jwt, "decode", forbidden("a signature that was checked before"))
    assert [(await admin.get(path)).json() for path in paths] == before


async def test_receipt_with_a_key_that_took_ten_round_trips(admin: httpx.AsyncClient, item: int) -> None:
    """Two to claim and to record the key, two to lock and to write; BEGIN and COMMIT are two more."""
    at = await admin.post(
        "/api/v1/inventory/locations", json={"code": "MAIN", "name": "M", "location_type": "WAREHOUSE"}
    )
    assert at.status_code == 201
    body = {"item_id": item, "location": "MAIN", "quantity": "1", "unit_cost": "2.5"}
    first = await admin.post("/api/v1/inventory/stock/in", json=body, headers={"Idempotency-Key": "k-1"})
    assert first.status_code == 201
    with sent_statements() as sent:
        second = await admin.post("/api/v1/inventory/stock/in", json=body, headers={"Idempotency-Key": "k-2"})
    assert second.status_code == 201
    assert len(sent) == 4
