"""Items over HTTP: what is kept, what is refused, and that a delete cannot race a receipt."""

import asyncio
import base64
import json
from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.inventory import items
from erp_service.inventory.posting import ledger, row_locks
from erp_service.inventory.posting.row_locks import Wanted
from erp_service.inventory.schemas import ItemBody, NameText, SkuText, UnitText
from tests.inventory.catalogue import ITEMS, bolt, listed, make, make_place, receipt
from tests.inventory.posting import Post
from tests.support.clients import UserClient
from tests.support.statements import Plans, Waiting
from tests.support.waiting import eventually


async def audited(owner: asyncpg.Connection, entity: str = "item") -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await owner.fetch(
        "select action, entity_id, user_id, before, after, request_id from audit_log where entity = $1 order by id",
        entity,
    )
    return found


async def test_an_item_is_made_with_its_defaults(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(ITEMS, json=bolt(reorder_point="12.50"))
    item = answer.json()
    assert answer.headers["Location"] == f"{ITEMS}/{item['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert item["reorder_point"] == "12.5"
    assert (item["status"], item["description"], item["deleted_at"]) == ("ACTIVE", None, None)
    assert item["created_at"].endswith("Z")
    assert (await admin.get(answer.headers["Location"])).json() == item


async def test_a_change_is_audited_with_before_and_after_in_its_own_transaction(
    admin: UserClient, owner: asyncpg.Connection
) -> None:
    item = await make(admin)
    address = f"{ITEMS}/{item['id']}"
    changed = await admin.put(address, json=bolt(name="Bolt"), headers={"X-Request-Id": "change-1"})
    assert (await admin.put(address, json=bolt(name=""))).status_code == 422
    assert (await admin.delete(address)).status_code == 204
    created, updated, deleted = await audited(owner)
    assert [created["action"], updated["action"], deleted["action"]] == ["item.created", "item.updated", "item.deleted"]
    assert {row["entity_id"] for row in (created, updated, deleted)} == {str(item["id"])}
    assert created["user_id"] == admin.user_id
    assert created["before"] is None
    assert '"Bolt M8"' in updated["before"]
    assert '"Bolt"' in updated["after"]
    assert updated["request_id"] == changed.headers["X-Request-Id"] == "change-1"
    assert '"deleted_at": null' not in deleted["after"]


async def test_put_replaces_everything_and_a_field_left_out_gets_its_default(admin: httpx.AsyncClient) -> None:
    item = await make(admin, status="INACTIVE", description="zinc", reorder_point="5")
    answer = await admin.put(f"{ITEMS}/{item['id']}", json=bolt(sku="BOLT-M9"))
    after = answer.json()
    assert answer.headers["ETag"] == '"2"'
    assert (after["sku"], after["status"], after["description"], after["reorder_point"]) == (
        "BOLT-M9",
        "ACTIVE",
        None,
        None,
    )
    assert after["created_at"] == item["created_at"] < after["updated_at"]


async def test_a_put_that_changes_nothing_keeps_the_etag_and_writes_no_audit(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    item = await make(admin, reorder_point="12.5")
    answer = await admin.put(f"{ITEMS}/{item['id']}", json=bolt(reorder_point=12.50))
    assert answer.json() == item
    assert answer.headers["ETag"] == '"1"'
    assert len(await audited(owner)) == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_stale_if_match_changes_nothing(admin: httpx.AsyncClient, method: str) -> None:
    item = await make(admin)
    address = f"{ITEMS}/{item['id']}"
    await admin.put(address, json=bolt(name="of somebody else"), headers={"If-Match": '"1"'})
    body = {"json": bolt(name="mine")} if method == "PUT" else {}
    answer = await admin.request(method, address, headers={"If-Match": '"1"'}, **body)  # type: ignore[arg-type]
    assert answer.status_code == 412
    assert answer.json()["type"] == "/problems/stale"
    assert answer.headers["ETag"] == '"2"'
    assert (await admin.get(address)).json()["name"] == "of somebody else"


async def test_of_edits_at_once_with_one_etag_one_wins(admin: httpx.AsyncClient) -> None:
    item = await make(admin)
    edits = [
        admin.put(f"{ITEMS}/{item['id']}", json=bolt(name=f"edit {n}"), headers={"If-Match": '"1"'}) for n in range(8)
    ]
    assert sorted(answer.status_code for answer in await asyncio.gather(*edits)) == [200] + 7 * [412]


async def test_a_known_etag_is_answered_with_304(admin: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    item = await make(admin)
    answer = await viewer.get(f"{ITEMS}/{item['id']}", headers={"If-None-Match": '"1"'})
    assert (answer.status_code, answer.content) == (304, b"")


async def test_a_deleted_item_is_gone_unless_asked_for_and_keeps_its_sku(admin: httpx.AsyncClient) -> None:
    item = await make(admin)
    address = f"{ITEMS}/{item['id']}"
    assert (await admin.delete(address)).status_code == 204
    assert (await admin.get(address)).status_code == 404
    assert (await admin.put(address, json=bolt())).status_code == 404
    assert (await admin.delete(address)).status_code == 404
    assert (await admin.get(ITEMS)).json()["items"] == []
    kept = await admin.get(address, params={"include_deleted": True})
    assert kept.json()["deleted_at"] is not None
    assert kept.headers["ETag"] == '"2"'
    assert (await admin.get(ITEMS, params={"include_deleted": True})).json()["items"] == [kept.json()]
    refused = await admin.post(ITEMS, json=bolt())
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/sku-taken")


async def test_a_sku_is_taken_once_also_by_a_put(admin: httpx.AsyncClient) -> None:
    await make(admin)
    nut = await make(admin, sku="NUT")
    refused = await admin.put(f"{ITEMS}/{nut['id']}", json=bolt())
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/sku-taken")


async def test_a_sku_that_could_be_mistaken_for_another_is_refused(admin: httpx.AsyncClient) -> None:
    blanks = ["", " A", "A ", "A\n", "\u00a0A", "A\u3000", "A\u0085"]
    for sku in [*blanks, "A\tB", "A\x00B", "A\u200bB", "\u202eA", "x" * 101]:
        answer = await admin.post(ITEMS, json=bolt(sku=sku))
        assert answer.status_code == 422, sku
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "/sku"
        assert "regex" not in error["detail"]


async def test_a_sku_may_be_any_visible_text(admin: httpx.AsyncClient) -> None:
    for sku in ["A B", "85123A", "m", "M", "Ä-ß/№ 7", "螺栓"]:
        assert (await make(admin, sku=sku))["sku"] == sku


async def test_every_bad_field_is_named_at_once(admin: httpx.AsyncClient) -> None:
    body = {"sku": " A", "name": "\t ", "status": "GONE", "description": 7, "reorder_point": "NaN", "colour": "red"}
    answer = await admin.post(ITEMS, json=body)
    assert answer.status_code == 422
    found = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
    assert set(found) == {"/sku", "/name", "/status", "/description", "/reorder_point", "/colour"}
    assert found["/sku"] == "begins with a blank"
    assert found["/name"] == "has no visible character"


async def test_a_reorder_point_that_the_column_cannot_hold_is_refused(admin: httpx.AsyncClient) -> None:
    for number in ["-1", "1.0000001", "1e3", "٣", True, "1_0", 10**12, "1000000000000", [], ""]:
        answer = await admin.post(ITEMS, json=bolt(reorder_point=number))
        assert answer.status_code == 422, number
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/reorder_point"]


async def test_a_viewer_reads_and_does_not_write(admin: httpx.AsyncClient, staff: httpx.AsyncClient) -> None:
    address = f"{ITEMS}/{(await make(admin))['id']}"
    assert (await staff.get(address)).status_code == 200
    for answer in (
        await staff.post(ITEMS, json=bolt(sku="X")),
        await staff.put(address, json=bolt(name="X")),
        await staff.delete(address),
    ):
        assert answer.status_code == 403
    assert (await admin.get(ITEMS)).json()["items"][0]["version"] == 1


async def test_nobody_reads_without_a_token(client: httpx.AsyncClient) -> None:
    for address in ("", "/1"):
        assert (await client.get(ITEMS + address)).status_code == 401


async def test_what_is_no_id_of_an_item_is_not_found(admin: httpx.AsyncClient) -> None:
    for id_ in ["999", "0", "-1", "1_0", "+1", "9007199254740993", "x"]:
        for answer in (
            await admin.get(f"{ITEMS}/{id_}"),
            await admin.put(f"{ITEMS}/{id_}", json=bolt()),
            await admin.delete(f"{ITEMS}/{id_}"),
        ):
            assert answer.status_code == 404, id_


# Lists


async def test_filters_find_what_they_name_and_wildcards_are_plain_letters(admin: httpx.AsyncClient) -> None:
    await make(admin, sku="A_1", name="Half 50% off")
    await make(admin, sku="AX1", name="Half 500 off", status="DISCONTINUED")
    await make(admin, sku="a/1", name="back\\slash")
    assert await listed(admin, q="a_1") == ["A_1"]
    assert await listed(admin, q="50%") == ["A_1"]
    assert await listed(admin, q="HALF") == ["A_1", "AX1"]
    assert await listed(admin, q="/") == ["a/1"]
    assert await listed(admin, q="\\") == ["a/1"]
    assert await listed(admin, q="%") == ["A_1"]
    assert await listed(admin, sku="a_1") == []
    assert await listed(admin, sku="A_1") == ["A_1"]
    assert await listed(admin, status="DISCONTINUED") == ["AX1"]
    assert await listed(admin, q="half", status="ACTIVE", sku="AX1") == []


@pytest.mark.parametrize("sort", ["id", "name", "sku"])
async def test_a_traversal_shows_each_row_once_in_every_order(
    admin: httpx.AsyncClient, database: Database, sort: str
) -> None:
    async with database.write() as db:
        for n in range(11):
            body = ItemBody(sku=SkuText(f"{chr(107 - n)}'\"{n}"), name=NameText(f"N{n % 3}"), unit=UnitText("pcs"))
            await items.create(db, system("test"), body)
    whole = await listed(admin, sort=sort, limit=500)
    assert len(set(whole)) == 11
    assert await listed(admin, sort=f"-{sort}") == whole[::-1]
    if sort == "id":
        assert await listed(admin) == whole == sorted(whole, reverse=True)
    for limit in (1, 2, 3, 10, 11, 12):
        assert await traversed(admin, sort, limit) == whole
        assert await traversed(admin, f"-{sort}", limit) == whole[::-1]


async def traversed(client: httpx.AsyncClient, sort: str, limit: int) -> list[str]:
    seen: list[str] = []
    address: str | None = f"{ITEMS}?sort={sort}&limit={limit}"
    while address:
        answer = await client.get(address)
        page = answer.json()["items"]
        assert 0 < len(page) <= limit
        seen += [item["sku"] for item in page]
        address = answer.links["next"]["url"] if "next" in answer.links else None
        assert bool(address) == (answer.json()["next_cursor"] is not None)
    return seen


async def test_a_bad_parameter_is_named(admin: httpx.AsyncClient) -> None:
    bad: dict[str, list[Any]] = {
        "limit": [0, 501, "x", "1_0"],
        "sort": ["price", "--id", ""],
        "status": ["active"],
        "include_deleted": ["perhaps"],
        "cursor": ["not a cursor", "W10", "bnVsbA", "é"],
        "q": ["x" * 201],
        "colour": ["red"],
    }
    for parameter, values in bad.items():
        for value in values:
            answer = await admin.get(ITEMS, params={parameter: value})
            assert answer.status_code == 422, (parameter, value)
            assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


async def test_a_cursor_of_another_order_is_refused(admin: httpx.AsyncClient) -> None:
    await make(admin)
    await make(admin, sku="NUT")
    cursor = (await admin.get(ITEMS, params={"limit": 1, "sort": "name"})).json()["next_cursor"]
    answer = await admin.get(ITEMS, params={"limit": 1, "cursor": cursor})
    assert answer.status_code == 422


async def test_a_nul_in_a_filter_is_the_callers_fault(admin: httpx.AsyncClient) -> None:
    assert (await admin.get(f"{ITEMS}?q=%00")).status_code == 422


async def test_page_10_000_is_an_index_scan_in_every_order(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, plans: Plans
) -> None:
    await owner.execute(
        "insert into items (sku, name, unit) select 'S' || n, 'N' || n / 3, 'pcs' from generate_series(1, 20000) n"
    )
    await owner.execute("analyze items")
    indexes = {"id": "items_pkey", "sku": "items_sku_key", "name": "items_name_key_id_idx"}
    for field, index in indexes.items():
        by = "name_key" if field == "name" else field
        row = await owner.fetchrow(f"select {field} as value, id from items order by {by}, id offset 10000 limit 1")
        fields, values = ([field], [row["value"]]) if field != "name" else (["name", "id"], [row["value"], row["id"]])
        for sort in (field, f"-{field}"):
            await plans()
            answer = await admin.get(ITEMS, params={"sort": sort, "cursor": _cursor(fields, values)})
            assert len(answer.json()["items"]) == 50
            plan = await plans()
            assert index in plan, plan
            assert "Index Cond" in plan, plan
            assert "Sort" not in plan, plan


# Deleting


async def test_an_item_with_stock_is_not_deleted_and_the_places_are_named(admin: httpx.AsyncClient, post: Post) -> None:
    item, main = await make(admin), await make_place(admin)
    below = await make_place(admin, "DOCK", allow_negative_stock=True)
    await make_place(admin, "EMPTY")
    await post("IN", "BOLT-M8", "MAIN", "2.5", unit_cost="2")
    await post("OUT", "BOLT-M8", "DOCK", "1")
    await post("IN", "BOLT-M8", "EMPTY", "1", unit_cost="2")
    await post("OUT", "BOLT-M8", "EMPTY", "1")
    answer = await admin.delete(f"{ITEMS}/{item['id']}")
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["locations"]) == (409, "/problems/item-has-stock", 2)
    assert problem["stock"] == [
        {"location_id": main["id"], "location": "MAIN", "on_hand": "2.5", "reserved": "0"},
        {"location_id": below["id"], "location": "DOCK", "on_hand": "-1", "reserved": "0"},
    ]
    assert (await admin.get(f"{ITEMS}/{item['id']}")).headers["ETag"] == '"1"'


async def test_an_item_whose_stock_went_can_be_deleted(admin: httpx.AsyncClient, post: Post) -> None:
    item = await make(admin)
    await make_place(admin)
    await post("IN", "BOLT-M8", "MAIN", "1", unit_cost="2")
    await post("OUT", "BOLT-M8", "MAIN", "1")
    assert (await admin.delete(f"{ITEMS}/{item['id']}")).status_code == 204


async def test_a_delete_waits_for_a_receipt_that_is_being_committed_and_is_refused(
    admin: httpx.AsyncClient, database: Database, waiting: Waiting
) -> None:
    item = await make(admin)
    await make_place(admin)
    async with database.write() as db:
        held = await row_locks.lock_rows(db, [Wanted("BOLT-M8", "MAIN")])
        delete = asyncio.create_task(admin.delete(f"{ITEMS}/{item['id']}"))
        await eventually(waiting)
        await ledger.post(db, system("test"), [receipt(held)], held)
    assert (await delete).json()["stock"][0]["on_hand"] == "1"


async def test_a_receipt_waits_for_a_delete_that_is_being_committed_and_finds_no_item(
    admin: httpx.AsyncClient, database: Database, waiting: Waiting
) -> None:
    item = await make(admin)
    await make_place(admin)

    async def receive() -> bool:
        async with database.write() as db:
            return "BOLT-M8" in (await row_locks.lock_rows(db, [Wanted("BOLT-M8", "MAIN")])).items

    async with database.write() as db:
        await items.delete(db, system("test"), await items.lock_for_update(db, item["id"]))
        receiving = asyncio.create_task(receive())
        await eventually(waiting)
    assert not await receiving


async def test_receipts_and_deletes_at_once_leave_no_stock_of_a_deleted_item(
    admin: httpx.AsyncClient, database: Database, owner: asyncpg.Connection
) -> None:
    await make_place(admin)
    made = [await make(admin, sku=f"S{n}") for n in range(16)]

    async def receive(sku: str) -> bool:
        async with database.write() as db:
            held = await row_locks.lock_rows(db, [Wanted(sku, "MAIN")])
            if found := sku in held.items:
                await ledger.post(db, system("test"), [receipt(held, sku)], held)
            return found

    received, deleted = await asyncio.gather(
        asyncio.gather(*(receive(item["sku"]) for item in made)),
        asyncio.gather(*(admin.delete(f"{ITEMS}/{item['id']}") for item in made)),
    )
    assert [answer.status_code for answer in deleted] == [409 if there else 204 for there in received]
    orphans = (
        "select count(*) from stock_balances join items on id = item_id where on_hand <> 0 and deleted_at is not null"
    )
    assert await owner.fetchval(orphans) == 0


def _cursor(fields: list[str], values: list[object]) -> str:
    return base64.urlsafe_b64encode(json.dumps([fields, values]).encode()).rstrip(b"=").decode()
