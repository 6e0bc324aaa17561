"""GET /events: what happened, to whom may read it, at once or as soon as there is something."""

import asyncio
import contextlib
import re
from typing import Any

import asyncpg
import httpx
import pytest
from litestar import Litestar

from erp_service.access import principals
from erp_service.access.principals import KeyGrant, Principal, system
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.audit.record import record
from erp_service.audit.trail_queries import known_types, readable_types
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.support.apps import services_of
from tests.support.clients import SignIn, UserClient
from tests.support.trail import seal_all
from tests.support.waiting import eventually

URL = "/api/v1/events"
WHO = system("erp test")


async def happens(database: Database, settings: Settings, *actions: str) -> None:
    """Each is recorded of the subject whose id is its place, and sealed."""
    async with database.write() as db:
        for number, action in enumerate(actions):
            await record(db, WHO, action, number)
    await seal_all(settings)


async def page(client: httpx.AsyncClient, **query: object) -> dict[str, Any]:
    answer = await client.get(URL, params={name: str(value) for name, value in query.items()}, timeout=40)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    assert re.fullmatch("[0-9a-f]{64}", result.pop("link"))
    return result


async def problem(client: httpx.AsyncClient, **query: object) -> tuple[int, str]:
    answer = await client.get(URL, params={name: str(value) for name, value in query.items()})
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def positions(result: dict[str, Any]) -> list[int]:
    return [event["position"] for event in result["items"]]


async def test_each_reader_gets_only_what_their_role_may_read_and_the_place_moves_on(
    viewer: UserClient, admin: UserClient, database: Database, settings: Settings
) -> None:
    await happens(database, settings, "user.created", "item.created", "user.updated", "user.updated")
    assert positions(await page(viewer)) == [2]
    assert (await page(viewer))["last_position"] == 4
    assert positions(await page(admin)) == [1, 2, 3, 4]
    assert await page(viewer, after=2) == {"items": [], "last_position": 4}
    assert positions(await page(admin, types="user.updated,item.created", limit=2)) == [2, 3]
    assert (await page(admin, types="user.updated,item.created", limit=2))["last_position"] == 3
    assert await page(admin, after="latest") == {"items": [], "last_position": 4}
    assert await problem(viewer, types="user.updated") == (403, "forbidden")


def test_a_key_hears_of_what_its_scopes_and_its_role_both_allow() -> None:
    key = KeyGrant(1, frozenset({Scope.ITEMS_READ, Scope.USERS_READ}))
    types = readable_types(Role.STAFF, Principal(1, Role.STAFF, key=key).has_scope)
    assert types == {"import.items", "item.created", "item.deleted", "item.restored", "item.updated"}
    assert readable_types(Role.VIEWER, Principal(1, Role.VIEWER, key=KeyGrant(1, frozenset())).has_scope) == frozenset()
    assert readable_types(Role.SUPER_ADMIN, Principal(1, Role.SUPER_ADMIN).has_scope) == known_types()


async def test_the_types_are_listed_to_whoever_may_hear_of_them(viewer: UserClient, super_admin: UserClient) -> None:
    listed = (await super_admin.get(f"{URL}/types")).json()["items"]
    assert [each["name"] for each in listed] == sorted(known_types())
    assert {"name": "stock.posted", "role": "VIEWER", "scope": "stock:read"} in listed
    few = (await viewer.get(f"{URL}/types")).json()["items"]
    assert {each["name"] for each in few} == readable_types(Role.VIEWER, lambda _scope: True)
    assert {each["role"] for each in few} == {"VIEWER"}


async def test_an_event_has_ids_versions_and_the_names_of_what_changed(
    viewer: UserClient, database: Database, settings: Settings
) -> None:
    async with database.write() as db:
        before = {"id": 7, "sku": "A", "name": "old", "external_id": "x" * 201, "version": 1}
        await record(db, WHO, "item.updated", 7, before=before, after={**before, "name": "new", "version": 2})
    await seal_all(settings)
    (event,) = (await page(viewer))["items"]
    assert event.pop("at").endswith("Z")
    assert event == {
        "position": 1,
        "type": "item.updated",
        "subject": "item/7",
        "data": {"id": 7, "version": 2, "changed": ["name"]},
    }


async def test_a_stock_document_says_which_items_moved_where_and_what_is_there_now(
    admin: UserClient, settings: Settings
) -> None:
    item = (await admin.post("/api/v1/inventory/items", json={"sku": "A", "name": "a"})).json()["id"]
    location = {"code": "L", "name": "l", "location_type": "WAREHOUSE"}
    location_id = (await admin.post("/api/v1/inventory/locations", json=location)).json()["id"]
    receipt = {"item_id": item, "location_id": location_id, "quantity": "2.50", "unit_cost": "3"}
    posted = (await admin.post("/api/v1/inventory/stock/in", json=receipt)).json()
    await seal_all(settings)
    (event,) = (await page(admin, types="stock.posted"))["items"]
    assert event["subject"] == f"stock/{posted['transaction_id']}"
    assert event["data"] == {
        "reverses": None,
        "entry_count": 1,
        "entries": [
            {
                "id": posted["id"],
                "item_id": item,
                "location_id": location_id,
                "transaction_type": "IN",
                "quantity": "2.5",
                "on_hand_after": "2.5",
            }
        ],
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"after": "-1"}, (422, "invalid")),
        ({"after": "01"}, (422, "invalid")),
        ({"after": "9" * 16}, (422, "invalid")),
        ({"after": "now"}, (422, "invalid")),
        ({"types": "item.exploded"}, (422, "invalid")),
        ({"types": ""}, (422, "invalid")),
        ({"wait": "31"}, (422, "invalid")),
        ({"limit": "501"}, (422, "invalid")),
        # the database was restored, and the reader was further
        ({"after": "1000"}, (409, "position-unknown")),
        ({"after": "0", "link": 64 * "a"}, (409, "position-unknown")),
        ({"after": "0", "link": "a"}, (422, "invalid")),
    ],
)
async def test_what_is_no_place_and_no_type_is_refused(
    viewer: UserClient, query: dict[str, str], expected: tuple[int, str]
) -> None:
    assert await problem(viewer, **query) == expected


async def test_a_reader_who_was_away_during_a_restore_is_told_of_it(
    viewer: UserClient, database: Database, settings: Settings, owner: asyncpg.Connection
) -> None:
    await happens(database, settings, *["item.created"] * 3)
    seen = (await viewer.get(URL)).json()
    place = {"after": seen["last_position"], "link": seen["link"]}
    await happens(database, settings, "item.updated")
    assert positions(await page(viewer, **place)) == [4]
    # the same positions again, with other events
    await owner.execute("alter table trail disable trigger user; delete from trail where position >= 2")
    await seal_all(settings)
    assert await problem(viewer, **place) == (409, "position-unknown")


async def test_a_reader_who_waits_is_answered_by_the_next_event_that_they_may_read(
    app: Litestar, viewer: UserClient, database: Database, settings: Settings
) -> None:
    feed = services_of(app).feed
    waiting = asyncio.create_task(page(viewer, wait=30))
    await eventually(lambda: _has_waiters(app))
    await happens(database, settings, "user.updated")
    assert services_of(app).database.pool()["in_use"] == 0
    await happens(database, settings, "item.created")
    assert positions(await waiting) == [2]
    assert not feed.waiters


async def test_a_wait_ends_when_the_rights_go(app: Litestar, viewer: UserClient, owner: asyncpg.Connection) -> None:
    waiting = asyncio.create_task(viewer.get(URL, params={"wait": "30"}, timeout=40))
    await eventually(lambda: _has_waiters(app))
    await owner.execute("update users set is_active = false, version = version + 1 where id = $1", viewer.user_id)
    await owner.execute("select pg_notify($1, $2)", principals.CHANNEL, str(viewer.user_id))
    assert (await waiting).status_code == 401


async def test_a_wait_ends_when_the_instance_stops(app: Litestar, viewer: UserClient) -> None:
    waiting = asyncio.create_task(page(viewer, wait=30))
    await eventually(lambda: _has_waiters(app))
    services_of(app).readiness.stopping.set()
    assert await waiting == {"items": [], "last_position": 0}


async def test_only_so_many_requests_of_one_user_wait(app: Litestar, sign_in: SignIn, settings: Settings) -> None:
    viewer = await sign_in(Role.VIEWER)
    feed = services_of(app).feed
    with contextlib.ExitStack() as stack:
        for _ in range(settings.event_streams_per_user):
            stack.enter_context(feed.waiting(viewer.user_id, frozenset()))
        assert await problem(viewer, wait=1) == (429, "too-many-waiters")
        # and without waiting they are answered
        assert await page(viewer) == {"items": [], "last_position": 0}


async def _has_waiters(app: Litestar) -> bool:
    return services_of(app).feed.waiters > 0
