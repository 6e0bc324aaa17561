"""The audit log: who did what; administrators read it and nobody changes it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.principals import Principal, system
from erp_service.access.roles import Role
from erp_service.audit.record import record
from erp_service.db.engine import Database
from tests.support.users import make_user

URL = "/api/v1/audit"


async def entries(client: httpx.AsyncClient, **query: object) -> list[dict[str, Any]]:
    parameters = {name.rstrip("_"): str(value) for name, value in query.items()}
    answer = await client.get(URL, params=parameters)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_entries_are_found_by_who_what_request_and_time(admin: httpx.AsyncClient, database: Database) -> None:
    grace = await make_user(database, Role.STAFF)
    who = Principal(grace, Role.STAFF, "request-1", "203.0.113.9")
    start = datetime.now(UTC)
    async with database.write() as db:
        await record(db, who, "item.created", 7, after={"sku": "A"})
        await record(db, who, "item.updated", 7, before={"sku": "A"}, after={"sku": "B"}, reason="renamed")
        await record(db, system("erp import"), "location.created", "L-1")
    everything = await entries(admin)
    assert [entry["action"] for entry in everything] == ["location.created", "item.updated", "item.created"]
    newest, updated, _ = everything
    assert (newest["user_id"], newest["request_id"]) == (None, "erp import")
    assert updated["at"].endswith("Z")
    del updated["id"], updated["at"]
    assert updated == {
        "user_id": grace,
        "action": "item.updated",
        "entity": "item",
        "entity_id": "7",
        "before": {"sku": "A"},
        "after": {"sku": "B"},
        "reason": "renamed",
        "request_id": "request-1",
        "address": "203.0.113.9",
        "on_behalf_of": None,
        "actor": None,
        "api_key_id": None,
    }
    for query, found in (
        ({"user_id": grace}, 2),
        ({"user_id": grace + 1000}, 0),
        ({"action": "item.created"}, 1),
        ({"entity": "item"}, 2),
        ({"entity": "item", "entity_id": "7", "action": "item.updated"}, 1),
        ({"entity_id": "L-1"}, 1),
        ({"request_id": "request-1"}, 2),
        ({"from": start.isoformat()}, 3),
        ({"to": start.isoformat()}, 0),
        ({"from": (start + timedelta(hours=1)).isoformat()}, 0),
        ({"from": start.isoformat(), "to": (start + timedelta(hours=1)).isoformat()}, 3),
    ):
        assert len(await entries(admin, **query)) == found, query


async def test_pages_follow_each_other_and_new_entries_do_not_shift_them(
    admin: httpx.AsyncClient, database: Database
) -> None:
    async def add(count: int) -> None:
        async with database.write() as db:
            for n in range(count):
                await record(db, system("test"), "item.created", n)

    await add(7)
    seen: list[int] = []
    url: str | None = f"{URL}?entity=item&limit=3"
    while url is not None:
        answer = await admin.get(url)
        seen += [entry["id"] for entry in answer.json()["items"]]
        url = answer.links["next"]["url"] if "next" in answer.links else None
        await add(2)
    assert len(seen) == 7
    assert seen == sorted(seen, reverse=True)


async def test_only_administrators_read_it_and_only_with_known_filters(
    admin: httpx.AsyncClient, staff: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    assert (await client.get(URL)).status_code == 401
    assert (await staff.get(URL)).status_code == 403
    for query in (
        "user=1",
        "user_id=0",
        "user_id=x",
        "from=yesterday",
        "from=2026-01-01T00:00:00",
        "to=2026-13-01T00:00:00Z",
        "to=9999-12-31T23:59:59-01:00",
        "limit=0",
        "cursor=x",
        "action=" + "x" * 201,
    ):
        answer = await admin.get(f"{URL}?{query}")
        assert answer.status_code == 422, query
        assert [fault["parameter"] for fault in answer.json()["errors"]] == [query.partition("=")[0]], query
    assert (await admin.get(f"{URL}?action=%00")).status_code == 422
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (await admin.request(method, URL)).status_code == 405


async def test_the_database_itself_refuses_every_change(owner: asyncpg.Connection, database: Database) -> None:
    """A trigger refuses it to everybody, the owner included; the service has no grant for it either."""
    async with database.write() as db:
        await record(db, system("test"), "item.created", 1)
    for statement in ("update audit_log set reason = 'x'", "delete from audit_log", "truncate audit_log"):
        with pytest.raises(asyncpg.PostgresError) as by_trigger:
            await owner.execute(statement)
        assert "append-only" in str(by_trigger.value)
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as by_grant:
            async with database.write() as db:
                await db.run(statement)
        assert "permission denied" in str(by_grant.value)
    assert await owner.fetchval("select count(*) from audit_log") == 1


async def test_an_entry_is_lost_together_with_its_change(owner: asyncpg.Connection, database: Database) -> None:
    async def fails() -> None:
        async with database.write() as db:
            await record(db, system("test"), "item.created", 1)
            raise RuntimeError("after the entry")

    with pytest.raises(RuntimeError):
        await fails()
    assert await owner.fetchval("select count(*) from audit_log") == 0
