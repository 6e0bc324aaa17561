"""What was deleted comes back as it was, unless its names or its place are taken; what is reserved is not deleted."""

import asyncio

import asyncpg
import httpx
import pytest

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.inventory import items, locations
from erp_service.inventory.posting import row_locks
from erp_service.inventory.posting.row_locks import Wanted
from tests.inventory.catalogue import ITEMS, LOCATIONS, bolt, listed, make, make_place
from tests.inventory.posting import Post
from tests.support.statements import Waiting
from tests.support.waiting import eventually


async def actions(owner: asyncpg.Connection) -> list[str]:
    return [row["action"] for row in await owner.fetch("select action from audit_log order by id")]


async def test_a_deleted_item_comes_back_as_it_was(admin: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    item = await make(admin, barcode="1", external_id="x", metadata={"a": "b"}, description="zinc")
    address = f"{ITEMS}/{item['id']}"
    await admin.delete(address)
    answer = await admin.post(f"{address}/restore")
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"3"')
    restored = answer.json()
    assert restored | {"version": 1, "updated_at": item["updated_at"]} == item
    assert (await admin.get(address)).json() == restored
    assert await listed(admin, barcode="1") == ["BOLT-M8"]
    again = await admin.post(f"{address}/restore")
    assert (again.status_code, again.headers["ETag"], again.json()) == (200, '"3"', restored)
    assert await actions(owner) == ["item.created", "item.deleted", "item.restored"]
    before, after = await owner.fetchrow(
        "select before ->> 'deleted_at', after ->> 'deleted_at' from audit_log where action = 'item.restored'"
    )
    assert before is not None
    assert after is None


async def test_a_retry_with_its_key_restores_once(admin: httpx.AsyncClient) -> None:
    item = await make(admin)
    address = f"{ITEMS}/{item['id']}"
    await admin.delete(address)
    first, second = [await admin.post(f"{address}/restore", headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert first.json() == second.json()
    assert second.headers["Idempotency-Replayed"] == "true"


async def test_nobody_but_an_admin_restores_and_what_never_was_is_not_found(
    admin: httpx.AsyncClient, staff: httpx.AsyncClient
) -> None:
    item, place = await make(admin), await make_place(admin)
    for address in (f"{ITEMS}/{item['id']}", f"{LOCATIONS}/{place['id']}"):
        await admin.delete(address)
        assert (await staff.post(f"{address}/restore")).status_code == 403
        assert (await admin.get(address)).status_code == 404
    for path in (ITEMS, LOCATIONS):
        for id_ in ("999", "0", "-1", "x"):
            assert (await admin.post(f"{path}/{id_}/restore")).status_code == 404


@pytest.mark.parametrize("field", ["barcode", "external_id"])
async def test_an_item_whose_name_was_taken_meanwhile_stays_deleted(admin: httpx.AsyncClient, field: str) -> None:
    item = await make(admin, **{field: "1"})
    address = f"{ITEMS}/{item['id']}"
    await admin.delete(address)
    nut = await make(admin, sku="NUT", **{field: "1"})
    refused = await admin.post(f"{address}/restore")
    slug = "barcode-taken" if field == "barcode" else "external-id-taken"
    assert (refused.status_code, refused.json()["type"]) == (409, f"/problems/{slug}")
    assert (await admin.get(address)).status_code == 404
    await admin.put(f"{ITEMS}/{nut['id']}", json=bolt(sku="NUT"))
    assert (await admin.post(f"{address}/restore")).status_code == 200


async def test_a_sku_from_before_texts_were_normalised_is_not_restored(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    id_ = await owner.fetchval(
        "insert into items (sku, name, unit, deleted_at) values ($1, 'A', 'pcs', now()) returning id", "CAFE\u0301"
    )
    refused = await admin.post(f"{ITEMS}/{id_}/restore")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/looks-alike")


async def test_a_create_waits_for_a_restore_that_is_being_committed_and_finds_the_barcode_taken(
    admin: httpx.AsyncClient, database: Database, waiting: Waiting
) -> None:
    item = await make(admin, barcode="1")
    await admin.delete(f"{ITEMS}/{item['id']}")
    async with database.write() as db:
        before = await items.lock_for_update(db, item["id"], include_deleted=True)
        await items.restore(db, system("test"), before)
        making = asyncio.create_task(admin.post(ITEMS, json=bolt(sku="NUT", barcode="1")))
        await eventually(waiting)
    assert (await making).json()["type"] == "/problems/barcode-taken"


async def test_of_restores_and_creates_at_once_one_has_the_barcode(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    deleted = []
    for n in range(4):
        deleted.append(await make(admin, sku=f"OLD-{n}", barcode="1"))
        await admin.delete(f"{ITEMS}/{deleted[-1]['id']}")
    answers = await asyncio.gather(
        *(admin.post(f"{ITEMS}/{item['id']}/restore") for item in deleted),
        *(admin.post(ITEMS, json=bolt(sku=f"NEW-{n}", barcode="1")) for n in range(4)),
    )
    assert sorted(answer.status_code for answer in answers)[1:] == 7 * [409]
    assert await owner.fetchval("select count(*) from items where barcode = '1' and deleted_at is null") == 1


# Locations


async def test_a_deleted_location_comes_back_where_it_was(admin: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    main = await make_place(admin)
    place = await make_place(admin, "BIN", parent="MAIN", external_id="x", metadata={"a": "b"})
    address = f"{LOCATIONS}/{place['id']}"
    await admin.delete(address)
    answer = await admin.post(f"{address}/restore")
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"3"')
    assert answer.json() | {"version": 1, "updated_at": place["updated_at"]} == place
    assert (place["parent_id"], place["parent"]) == (main["id"], "MAIN")
    assert (await admin.post(f"{address}/restore")).headers["ETag"] == '"3"'
    assert (await actions(owner))[-2:] == ["location.deleted", "location.restored"]


async def test_a_location_in_one_that_is_deleted_waits_for_that_to_be_restored(admin: httpx.AsyncClient) -> None:
    main = await make_place(admin)
    place = await make_place(admin, "BIN", parent="MAIN")
    for id_ in (place["id"], main["id"]):
        assert (await admin.delete(f"{LOCATIONS}/{id_}")).status_code == 204
    refused = await admin.post(f"{LOCATIONS}/{place['id']}/restore")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/no-place-in-tree")
    assert refused.json()["detail"] == "MAIN, which BIN was a part of, is deleted."
    for id_ in (main["id"], place["id"]):
        assert (await admin.post(f"{LOCATIONS}/{id_}/restore")).status_code == 200


async def test_a_location_is_not_restored_below_the_last_level(admin: httpx.AsyncClient) -> None:
    place = await make_place(admin, "TOP")
    leaf = await make_place(admin, "LEAF", parent="TOP")
    await admin.delete(f"{LOCATIONS}/{leaf['id']}")
    parent = None
    for level in range(locations.DEEPEST - 1):
        parent = (await make_place(admin, f"L{level}", parent_id=parent))["id"]
    moved = {"code": "TOP", "name": "TOP", "location_type": "WAREHOUSE", "parent_id": parent}
    assert (await admin.put(f"{LOCATIONS}/{place['id']}", json=moved)).status_code == 200
    refused = await admin.post(f"{LOCATIONS}/{leaf['id']}/restore")
    assert refused.json()["detail"] == "TOP is on the last of 20 levels."


async def test_a_location_whose_external_id_was_taken_meanwhile_stays_deleted(admin: httpx.AsyncClient) -> None:
    place = await make_place(admin, external_id="x")
    await admin.delete(f"{LOCATIONS}/{place['id']}")
    await make_place(admin, "SHOP", external_id="x")
    refused = await admin.post(f"{LOCATIONS}/{place['id']}/restore")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/external-id-taken")


async def test_restores_of_children_and_deletes_of_their_parents_at_once_leave_none_without_a_parent(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    parents, children = [], []
    for n in range(6):
        parents.append(await make_place(admin, f"P{n}"))
        children.append(await make_place(admin, f"C{n}", parent=f"P{n}"))
        await admin.delete(f"{LOCATIONS}/{children[-1]['id']}")
    answers = await asyncio.gather(
        *(admin.post(f"{LOCATIONS}/{child['id']}/restore") for child in children),
        *(admin.delete(f"{LOCATIONS}/{parent['id']}") for parent in parents),
    )
    outcomes = zip(answers[:6], answers[6:], strict=True)
    assert {(restored.status_code, deleted.status_code) for restored, deleted in outcomes} <= {(200, 409), (409, 204)}
    orphans = (
        "select count(*) from locations c join locations p on p.id = c.parent_id"
        " where p.deleted_at is not null and c.deleted_at is null"
    )
    assert await owner.fetchval(orphans) == 0


# Reserved stock


async def test_what_is_reserved_is_not_deleted_even_where_nothing_is_on_hand(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, post: Post
) -> None:
    item, place = await make(admin), await make_place(admin, allow_negative_stock=True)
    await post("IN", "BOLT-M8", "MAIN", "2", unit_cost="2")
    await post("OUT", "BOLT-M8", "MAIN", "2")
    await owner.execute("update stock_balances set reserved = 1.5")
    refused = (await admin.delete(f"{ITEMS}/{item['id']}")).json()
    assert (refused["type"], refused["locations"]) == ("/problems/item-has-stock", 1)
    assert refused["stock"] == [{"location_id": place["id"], "location": "MAIN", "on_hand": "0", "reserved": "1.5"}]
    refused = (await admin.delete(f"{LOCATIONS}/{place['id']}")).json()
    assert (refused["type"], refused["items"]) == ("/problems/location-has-stock", 1)
    assert refused["stock"] == [{"item_id": item["id"], "sku": "BOLT-M8", "on_hand": "0", "reserved": "1.5"}]
    await owner.execute("update stock_balances set reserved = 0")
    for address in (f"{ITEMS}/{item['id']}", f"{LOCATIONS}/{place['id']}"):
        assert (await admin.delete(address)).status_code == 204


async def test_deletes_wait_for_a_reservation_that_is_being_committed_and_are_refused(
    admin: httpx.AsyncClient, database: Database, post: Post, waiting: Waiting
) -> None:
    item, place = await make(admin), await make_place(admin, allow_negative_stock=True)
    await post("IN", "BOLT-M8", "MAIN", "1", unit_cost="2")
    await post("OUT", "BOLT-M8", "MAIN", "1")
    async with database.write() as db:
        await row_locks.lock_rows(db, [Wanted("BOLT-M8", "MAIN", valued=False)])
        deletes = [
            asyncio.create_task(admin.delete(f"{ITEMS}/{item['id']}")),
            asyncio.create_task(admin.delete(f"{LOCATIONS}/{place['id']}")),
        ]

        async def both() -> bool:
            return await waiting() == 2

        await eventually(both)
        await db.run("update stock_balances set reserved = 1")
    assert [(await delete).json()["stock"][0]["reserved"] for delete in deletes] == ["1", "1"]
