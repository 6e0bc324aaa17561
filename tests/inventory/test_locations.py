"""Locations over HTTP: a tree that stays one under concurrency, and the one policy on negative stock."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.inventory import locations
from erp_service.inventory.posting import row_locks
from erp_service.inventory.posting.row_locks import Wanted
from erp_service.inventory.schemas import CodeText, LocationBody, NameText
from tests.inventory.posting import Post
from tests.support.statements import Waiting
from tests.support.waiting import eventually

LOCATIONS = "/api/v1/inventory/locations"


def place(code: str = "MAIN", **fields: Any) -> dict[str, Any]:
    return {"code": code, "name": f"Place {code}", "location_type": "WAREHOUSE", **fields}


async def make(admin: httpx.AsyncClient, code: str = "MAIN", **fields: Any) -> int:
    answer = await admin.post(LOCATIONS, json=place(code, **fields))
    assert answer.status_code == 201, answer.text
    id_: int = answer.json()["id"]
    return id_


async def make_item(admin: httpx.AsyncClient, sku: str = "BOLT") -> int:
    answer = await admin.post("/api/v1/inventory/items", json={"sku": sku, "name": sku, "unit": "pcs"})
    id_: int = answer.json()["id"]
    return id_


async def put(admin: httpx.AsyncClient, id_: int, code: str = "MAIN", **fields: Any) -> httpx.Response:
    return await admin.put(f"{LOCATIONS}/{id_}", json=place(code, **fields))


async def actions(owner: asyncpg.Connection) -> list[str]:
    return [row["action"] for row in await owner.fetch("select action from audit_log order by id")]


async def test_a_location_is_made_read_replaced_and_deleted(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    answer = await admin.post(LOCATIONS, json=place(address="Dock Road 1"))
    made = answer.json()
    address = answer.headers["Location"]
    assert (address, answer.headers["ETag"]) == (f"{LOCATIONS}/{made['id']}", '"1"')
    assert (made["parent_id"], made["allow_negative_stock"], made["address"]) == (None, False, "Dock Road 1")
    assert (await viewer.get(address)).json() == made
    assert (await viewer.get(address, headers={"If-None-Match": '"1"'})).status_code == 304
    assert (await put(admin, made["id"], address="Dock Road 1")).headers["ETag"] == '"1"'
    replaced = await put(admin, made["id"], location_type="ZONE")
    assert (replaced.headers["ETag"], replaced.json()["address"]) == ('"2"', None)
    assert (await admin.delete(address, headers={"If-Match": '"1"'})).status_code == 412
    assert (await admin.put(address, json=place(), headers={"If-Match": '"1"'})).status_code == 412
    assert (await admin.delete(address, headers={"If-Match": '"2"'})).status_code == 204
    for gone in (await viewer.get(address), await put(admin, made["id"]), await admin.delete(address)):
        assert gone.status_code == 404
    assert (await viewer.get(address, params={"include_deleted": True})).json()["deleted_at"] is not None
    taken = await admin.post(LOCATIONS, json=place())
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/code-taken")
    assert await actions(owner) == ["location.created", "location.updated", "location.deleted"]


async def test_every_bad_field_is_named_at_once(admin: httpx.AsyncClient) -> None:
    body = {"code": "A ", "location_type": "SHELF", "parent_id": 0, "allow_negative_stock": "true", "x": 1}
    answer = await admin.post(LOCATIONS, json=body)
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {
        "/code",
        "/name",
        "/location_type",
        "/parent_id",
        "/allow_negative_stock",
        "/x",
    }


async def test_staff_reads_and_does_not_write(admin: httpx.AsyncClient, staff: httpx.AsyncClient) -> None:
    id_ = await make(admin)
    assert (await staff.get(LOCATIONS)).json()["items"][0]["id"] == id_
    for answer in (
        await staff.post(LOCATIONS, json=place("X")),
        await put(staff, id_),
        await staff.delete(f"{LOCATIONS}/{id_}"),
    ):
        assert answer.status_code == 403


async def test_filters_find_what_they_name(admin: httpx.AsyncClient) -> None:
    main = await make(admin, "MAIN", name="Zeta")
    await make(admin, "BIN_1", name="First bin", location_type="BIN", parent_id=main)
    second = await make(admin, "BIN-2", name="Second bin", location_type="BIN", parent_id=main)
    await admin.delete(f"{LOCATIONS}/{second}")

    async def listed(**params: Any) -> list[str]:
        answer = await admin.get(LOCATIONS, params=params)
        assert answer.status_code == 200, answer.text
        return [location["code"] for location in answer.json()["items"]]

    assert await listed() == ["MAIN", "BIN_1"]
    assert await listed(q="bin_") == ["BIN_1"]
    assert await listed(q="BIN", include_deleted=True) == ["BIN_1", "BIN-2"]
    assert await listed(code="MAIN") == ["MAIN"]
    assert await listed(location_type="BIN") == ["BIN_1"]
    assert await listed(parent_id=main, include_deleted=True) == ["BIN_1", "BIN-2"]
    assert await listed(sort="name") == ["BIN_1", "MAIN"]
    assert await listed(sort="-code", include_deleted=True) == (await listed(sort="code", include_deleted=True))[::-1]
    assert (await admin.get(LOCATIONS, params={"sort": "type"})).status_code == 422
    assert (await admin.get(LOCATIONS, params={"parent_id": 0})).status_code == 422


# The tree


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_parent_that_is_not_there_is_named(admin: httpx.AsyncClient, deleted: bool) -> None:
    parent = await make(admin, "GONE") if deleted else 999
    if deleted:
        await admin.delete(f"{LOCATIONS}/{parent}")
    id_ = await make(admin)
    for answer in (
        await admin.post(LOCATIONS, json=place("B", parent_id=parent)),
        await put(admin, id_, parent_id=parent),
    ):
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"detail": "is not the id of a location", "pointer": "/parent_id"}]


async def test_a_parent_is_named_by_its_code_or_by_its_id_or_by_both_if_they_agree(admin: httpx.AsyncClient) -> None:
    main, shop = await make(admin), await make(admin, "SHOP")
    bin_ = f"{LOCATIONS}/{await make(admin, 'BIN')}"
    for parent in ({"parent": "MAIN"}, {"parent_id": main}, {"parent": "MAIN", "parent_id": main}):
        answer = await admin.put(bin_, json=place("BIN", **parent))
        assert (answer.json()["parent_id"], answer.json()["parent"]) == (main, "MAIN"), parent
        assert answer.headers["ETag"] == '"2"'
        assert (await admin.get(bin_)).json() == answer.json()
    assert (await admin.put(bin_, json=place("BIN", parent="SHOP"))).json()["parent_id"] == shop
    deleted = await make(admin, "GONE")
    await admin.delete(f"{LOCATIONS}/{deleted}")
    for parent, detail in (
        ({"parent": "NONE"}, "is not the code of a location"),
        ({"parent": "main"}, "is not the code of a location"),
        ({"parent": "GONE"}, "is not the code of a location"),
        ({"parent": "MAIN", "parent_id": shop}, "is not the location that parent_id names"),
    ):
        for refused in (
            await admin.post(LOCATIONS, json=place("X", **parent)),
            await admin.put(bin_, json=place("BIN", **parent)),
        ):
            assert refused.json()["errors"] == [{"detail": detail, "pointer": "/parent"}], parent
    refused = await put(admin, main, parent="MAIN")
    assert refused.json()["errors"] == [{"detail": "is this location itself, or a part of it", "pointer": "/parent"}]


async def test_a_location_with_a_new_code_is_shown_by_those_in_it_under_a_new_etag(admin: httpx.AsyncClient) -> None:
    """A client that asks by ETag would keep the old code for ever."""
    main = await make(admin)
    inside, further = await make(admin, "BIN", parent="MAIN"), await make(admin, "PART", parent="BIN")
    assert (await put(admin, main, "HALL")).status_code == 200
    answer = await admin.get(f"{LOCATIONS}/{inside}", headers={"If-None-Match": '"1"'})
    assert (answer.status_code, answer.headers["ETag"], answer.json()["parent"]) == (200, '"2"', "HALL")
    assert (await admin.get(f"{LOCATIONS}/{further}", headers={"If-None-Match": '"1"'})).status_code == 304


async def test_new_codes_moves_and_transfers_at_once_make_no_deadlock(admin: httpx.AsyncClient, post: Post) -> None:
    """The locations in it were locked last; a transfer locks both ends by id."""
    d, c = await make(admin, "D"), await make(admin, "C")
    a, b = await make(admin, "A"), await make(admin, "B")
    await make_item(admin)
    for id_ in (a, d):
        received = {"sku": "BOLT", "location_id": id_, "quantity": "99", "unit_cost": "2"}
        assert (await admin.post("/api/v1/inventory/stock/in", json=received)).status_code == 201
    transfers = [
        {"sku": "BOLT", "from_location_id": d, "to_location_id": a, "quantity": "1"},
        {"sku": "BOLT", "from_location_id": a, "to_location_id": d, "quantity": "1"},
    ]
    for n in range(6):
        answers = await asyncio.gather(
            put(admin, a, f"A{n}"),
            put(admin, b, f"B{n}"),
            put(admin, c, f"C{n}", parent_id=(a, b)[n % 2]),
            put(admin, d, f"D{n}", parent_id=(b, c)[n % 2]),
            put(admin, d, f"E{n}", parent_id=a),
            *(admin.post("/api/v1/inventory/stock/transfer", json=transfer) for transfer in transfers),
        )
        assert {answer.status_code for answer in answers} <= {200, 201}


async def test_a_location_cannot_be_part_of_itself(admin: httpx.AsyncClient) -> None:
    a = await make(admin, "A")
    b = await make(admin, "B", parent_id=a)
    c = await make(admin, "C", parent_id=b)
    for parent in (a, b, c):
        answer = await put(admin, a, "A", parent_id=parent)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/parent_id"
    assert (await put(admin, c, "C", parent_id=a)).status_code == 200
    assert (await put(admin, c, "C")).json()["parent_id"] is None


async def test_the_tree_is_twenty_levels_deep_at_most_also_when_a_branch_is_moved(admin: httpx.AsyncClient) -> None:
    parent = None
    trunk = []
    for level in range(locations.DEEPEST):
        parent = await make(admin, f"L{level}", parent_id=parent)
        trunk.append(parent)
    refused = await admin.post(LOCATIONS, json=place("L20", parent_id=parent))
    assert "20 levels" in refused.json()["errors"][0]["detail"]
    branch = await make(admin, "BRANCH")
    await make(admin, "LEAF", parent_id=branch)
    assert (await put(admin, branch, "BRANCH", parent_id=trunk[18])).status_code == 422
    assert (await put(admin, branch, "BRANCH", parent_id=trunk[17])).status_code == 200


async def test_two_moves_that_cross_make_no_cycle_and_no_deadlock(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    a, b = await make(admin, "A"), await make(admin, "B")
    for _ in range(10):
        answers = await asyncio.gather(put(admin, a, "A", parent_id=b), put(admin, b, "B", parent_id=a))
        assert sorted(answer.status_code for answer in answers) == [200, 422]
        await asyncio.gather(put(admin, a, "A"), put(admin, b, "B"))
    assert await cycles(owner) == 0


async def test_a_move_waits_for_one_that_crosses_it_and_then_sees_it(
    admin: httpx.AsyncClient, database: Database, waiting: Waiting
) -> None:
    a, b = await make(admin, "A"), await make(admin, "B")
    body = LocationBody(code=CodeText("A"), name=NameText("Place A"), location_type="WAREHOUSE", parent_id=b)
    async with database.write() as db:
        await locations.replace(db, system("test"), await locations.lock_for_update(db, a), body)
        moving = asyncio.create_task(put(admin, b, "B", parent_id=a))
        await eventually(waiting)
    assert (await moving).status_code == 422


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=8))
async def test_any_moves_at_once_leave_a_tree(
    database: Database, owner: asyncpg.Connection, moves: list[tuple[int, int]]
) -> None:
    bodies = [LocationBody(code=CodeText(f"P{n}"), name=NameText("P"), location_type="ZONE") for n in range(5)]
    ids = []
    for body in bodies:
        async with database.write() as db:
            id_ = await db.fetch_value("select id from locations where code = $1", body.code)
            if id_ is None:
                id_ = (await locations.create(db, system("test"), body)).id
            else:
                await locations.replace(db, system("test"), await locations.lock_for_update(db, id_), body)
        ids.append(id_)

    async def move(child: int, parent: int) -> None:
        body = LocationBody(code=CodeText(f"P{child}"), name=NameText("P"), location_type="ZONE", parent_id=ids[parent])
        try:
            async with database.write() as db:
                await locations.replace(db, system("test"), await locations.lock_for_update(db, ids[child]), body)
        except errors.Invalid:
            pass

    await asyncio.gather(*(move(child, parent) for child, parent in moves))
    assert await cycles(owner) == 0


async def cycles(owner: asyncpg.Connection) -> int:
    found: int = await owner.fetchval(
        "with recursive up as (select id, parent_id from locations union all"
        " select up.id, l.parent_id from up join locations l on l.id = up.parent_id)"
        " cycle id, parent_id set looped using path select count(*) from up where looped"
    )
    return found


async def test_a_location_with_others_in_it_is_not_deleted(admin: httpx.AsyncClient) -> None:
    a = await make(admin, "A")
    b = await make(admin, "B", parent_id=a)
    answer = await admin.delete(f"{LOCATIONS}/{a}")
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "/problems/location-has-children")
    assert (problem["locations"], problem["children"]) == (1, [{"location_id": b, "location": "B"}])
    assert (await admin.delete(f"{LOCATIONS}/{b}")).status_code == 204
    assert (await admin.delete(f"{LOCATIONS}/{a}")).status_code == 204


async def test_a_location_is_not_deleted_under_one_that_is_being_made_in_it(
    admin: httpx.AsyncClient, database: Database, waiting: Waiting
) -> None:
    a = await make(admin, "A")
    async with database.write() as db:
        body = LocationBody(code=CodeText("B"), name=NameText("B"), location_type="BIN", parent_id=a)
        await locations.create(db, system("test"), body)
        deleting = asyncio.create_task(admin.delete(f"{LOCATIONS}/{a}"))
        await eventually(waiting)
    assert (await deleting).json()["type"] == "/problems/location-has-children"


async def test_nothing_is_made_in_a_location_that_is_being_deleted(
    admin: httpx.AsyncClient, database: Database, waiting: Waiting
) -> None:
    a = await make(admin, "A")
    async with database.write() as db:
        await locations.delete(db, system("test"), await locations.lock_for_update(db, a))
        making = asyncio.create_task(admin.post(LOCATIONS, json=place("B", parent_id=a)))
        await eventually(waiting)
    assert (await making).status_code == 422


async def test_makes_moves_and_deletes_at_once_leave_no_child_without_a_parent(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    parents = [await make(admin, f"P{n}") for n in range(6)]
    child = await make(admin, "CHILD")
    answers = await asyncio.gather(
        *(admin.post(LOCATIONS, json=place(f"C{n}", parent_id=parent)) for n, parent in enumerate(parents)),
        *(admin.delete(f"{LOCATIONS}/{parent}") for parent in parents),
        *(put(admin, child, "CHILD", parent_id=parent) for parent in parents),
    )
    assert {answer.status_code for answer in answers} <= {200, 201, 204, 409, 422}
    orphans = "select count(*) from locations c join locations p on p.id = c.parent_id where p.deleted_at is not null"
    assert await owner.fetchval(orphans) == 0


# Stock


async def test_a_location_with_stock_is_not_deleted_and_the_items_are_named(
    admin: httpx.AsyncClient, post: Post
) -> None:
    main = await make(admin, allow_negative_stock=True)
    bolt, nut = await make_item(admin), await make_item(admin, "NUT")
    await post("IN", "BOLT", "MAIN", "3.5", unit_cost="2")
    await post("IN", "NUT", "MAIN", "1", unit_cost="2")
    await post("OUT", "NUT", "MAIN", "2")
    answer = await admin.delete(f"{LOCATIONS}/{main}")
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["items"]) == (409, "/problems/location-has-stock", 2)
    assert problem["stock"] == [
        {"item_id": bolt, "sku": "BOLT", "on_hand": "3.5", "reserved": "0"},
        {"item_id": nut, "sku": "NUT", "on_hand": "-1", "reserved": "0"},
    ]
    await post("OUT", "BOLT", "MAIN", "3.5")
    await post("IN", "NUT", "MAIN", "1", unit_cost="2")
    assert (await admin.delete(f"{LOCATIONS}/{main}")).status_code == 204


async def test_a_delete_waits_for_a_receipt_that_is_being_committed_and_is_refused(
    admin: httpx.AsyncClient, database: Database, post: Post, waiting: Waiting, owner: asyncpg.Connection
) -> None:
    main = await make(admin)
    await make_item(admin)
    async with database.write() as db:
        await row_locks.lock_rows(db, [Wanted("BOLT", "MAIN")])
        deleting = asyncio.create_task(admin.delete(f"{LOCATIONS}/{main}"))
        await eventually(waiting)
        await db.execute(text("update stock_balances set on_hand = 1"))
    assert (await deleting).json()["type"] == "/problems/location-has-stock"


async def test_negative_stock_is_allowed_where_the_location_says_so_and_nowhere_else(
    admin: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    main, dock = await make(admin), await make(admin, "DOCK")
    await make_item(admin)
    for code in ("MAIN", "DOCK"):
        await post("IN", "BOLT", code, "1", unit_cost="2")
    with pytest.raises(errors.Conflict):
        await post("OUT", "BOLT", "MAIN", "2")
    assert (await put(admin, main, allow_negative_stock=True)).status_code == 200
    await post("OUT", "BOLT", "MAIN", "2")
    with pytest.raises(errors.Conflict):
        await post("OUT", "BOLT", "DOCK", "2")
    copies = await owner.fetch("select location_id, allows_negative from stock_balances order by 1")
    assert [tuple(row) for row in copies] == [(main, True), (dock, False)]


async def test_the_policy_cannot_be_switched_off_while_stock_is_negative(admin: httpx.AsyncClient, post: Post) -> None:
    main, bolt = await make(admin, allow_negative_stock=True), await make_item(admin)
    await make_item(admin, "NUT")
    await post("IN", "NUT", "MAIN", "1", unit_cost="2")
    await post("IN", "BOLT", "MAIN", "1", unit_cost="2")
    await post("OUT", "BOLT", "MAIN", "3")
    answer = await put(admin, main)
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["items"]) == (409, "/problems/negative-stock", 1)
    assert problem["stock"] == [{"item_id": bolt, "sku": "BOLT", "on_hand": "-2", "reserved": "0"}]
    assert (await admin.get(f"{LOCATIONS}/{main}")).json()["allow_negative_stock"] is True
    await post("IN", "BOLT", "MAIN", "2", unit_cost="2")
    assert (await put(admin, main)).status_code == 200
    with pytest.raises(errors.Conflict):
        await post("OUT", "BOLT", "MAIN", "1")


async def test_the_past_is_not_judged_once_negative_stock_is_no_longer_allowed(
    admin: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    """Stock was below zero then, and may be so for the minutes that movements are dated ahead."""
    main = await make(admin)
    assert await owner.fetchval("select history_from from locations") is None
    await put(admin, main, allow_negative_stock=True)
    assert await owner.fetchval("select history_from from locations") is None
    await make_item(admin)
    await post("IN", "BOLT", "MAIN", "1", unit_cost="2")
    switched = await owner.fetchval("select clock_timestamp()")
    assert (await put(admin, main)).status_code == 200
    assert await owner.fetchval("select history_from from locations") > switched
    await put(admin, main, allow_negative_stock=True)
    ahead = switched + timedelta(minutes=4)
    await post("OUT", "BOLT", "MAIN", "1", at=ahead)
    assert (await put(admin, main)).status_code == 200
    assert await owner.fetchval("select history_from from locations") == ahead


async def test_switching_the_policy_off_waits_for_an_issue_that_is_being_committed(
    admin: httpx.AsyncClient, database: Database, post: Post, waiting: Waiting
) -> None:
    main = await make(admin, allow_negative_stock=True)
    await make_item(admin)
    async with database.write() as db:
        await row_locks.lock_rows(db, [Wanted("BOLT", "MAIN")])
        switching = asyncio.create_task(put(admin, main))
        await eventually(waiting)
        await db.execute(text("update stock_balances set on_hand = -1"))
    assert (await switching).json()["type"] == "/problems/negative-stock"


async def test_issues_and_switches_at_once_leave_no_negative_stock_where_it_is_not_allowed(
    admin: httpx.AsyncClient, post: Post, owner: asyncpg.Connection
) -> None:
    main = await make(admin, allow_negative_stock=True)
    for n in range(6):
        await make_item(admin, f"S{n}")
        await post("IN", f"S{n}", "MAIN", "1", unit_cost="2")

    async def issue(sku: str) -> bool:
        try:
            await post("OUT", sku, "MAIN", "2")
        except errors.Conflict:
            return False
        return True

    issued, switched = await asyncio.gather(
        asyncio.gather(*(issue(f"S{n}") for n in range(6))),
        asyncio.gather(*(put(admin, main, allow_negative_stock=allow) for allow in (False, True, False, True))),
    )
    assert {answer.status_code for answer in switched} <= {200, 409}
    broken = (
        "select count(*) from stock_balances join locations on id = location_id"
        " where allows_negative <> allow_negative_stock"
    )
    assert await owner.fetchval(broken) == 0
    assert await owner.fetchval("select count(*) from stock_balances where on_hand < 0") == sum(issued)
