"""Many items made and changed by one request, by the rules of one."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.inventory import items
from erp_service.inventory.bulk.schemas import MOST_ITEMS
from erp_service.inventory.posting import ledger, row_locks
from erp_service.inventory.posting.row_locks import Wanted
from erp_service.inventory.schemas import BarcodeText, ExternalIdText, ItemBody, NameText, SkuText
from erp_service.validation import MOST_FAULTS
from tests.inventory.catalogue import ITEMS, bolt, listed, make, make_place, receipt
from tests.inventory.posting import Post
from tests.support.clients import UserClient
from tests.support.statements import Waiting, sent_statements
from tests.support.waiting import eventually

BULK = f"{ITEMS}/bulk"
TAKEN = "external-id-taken"


async def sent(client: httpx.AsyncClient, *items: dict[str, Any], **how: Any) -> httpx.Response:
    return await client.post(BULK, json={"items": items, **how})


async def written(client: httpx.AsyncClient, *items: dict[str, Any], **how: Any) -> list[str]:
    """The status of each line."""
    answer = await sent(client, *items, **how)
    assert answer.status_code == 200, answer.text
    statuses = [result["status"] for result in answer.json()["results"]]
    counts = {status: answer.json()[status] for status in ("created", "updated", "unchanged", "failed")}
    assert counts == {status: statuses.count(status) for status in counts}
    return statuses


def faults(answer: httpx.Response, status: int, slug: str) -> dict[str, str]:
    """The details by pointer."""
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), answer.text
    return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}


def line(n: int, **fields: Any) -> dict[str, Any]:
    return {"sku": f"S{n:04}", "name": f"Item {n}", **fields}


async def audited(owner: asyncpg.Connection) -> list[tuple[str, str]]:
    rows = await owner.fetch("select action, entity_id from audit_log where entity = 'item' order by id")
    return [(row["action"], row["entity_id"]) for row in rows]


# What becomes of the lines


async def test_an_upsert_makes_changes_and_leaves_alone_and_says_which(
    admin: UserClient, owner: asyncpg.Connection
) -> None:
    same = await make(admin, sku="SAME", name="Same", reorder_point="12.5", metadata={"a": "b"})
    old = await make(admin, sku="OLD", name="Old", description="kept", metadata={"a": "b"})
    lines: list[dict[str, Any]] = [
        {"sku": "NEW", "name": "New", "decimals": 0, "units": [{"unit": "case", "numerator": 12, "denominator": 1}]},
        {"sku": "SAME", "name": "Same", "reorder_point": 12.50, "metadata": {"a": "b"}},
        {"sku": "OLD", "name": "Renamed", "reorder_point": "0.000001", "metadata": {"c": "d"}},
    ]
    answer = await sent(admin, *lines)
    made, unchanged, changed = (result["item"] for result in answer.json()["results"])
    assert [result["status"] for result in answer.json()["results"]] == ["created", "unchanged", "updated"]
    assert [result["problem"] for result in answer.json()["results"]] == [None] * 3
    assert unchanged == same
    assert (changed["name"], changed["description"], changed["version"]) == ("Renamed", "kept", 2)
    assert (changed["reorder_point"], changed["metadata"]) == ("0.000001", {"a": "b", "c": "d"})
    assert (made["unit"], made["decimals"], made["version"]) == ("pcs", 0, 1)
    for item in (made, unchanged, changed):
        got = await admin.get(f"{ITEMS}/{item['id']}")
        assert (got.json(), got.headers["ETag"]) == (item, f'"{item["version"]}"')
    entries = await audited(owner)
    assert entries[2:] == [("item.created", str(made["id"])), ("item.updated", str(old["id"]))]
    assert await written(admin, *lines) == ["unchanged"] * 3
    assert await audited(owner) == entries


async def test_a_field_left_out_stays_and_null_gives_it_its_default(admin: httpx.AsyncClient) -> None:
    await make(
        admin, barcode="1", external_id="x", description="zinc", status="INACTIVE", metadata={"a": "1", "b": "2"}
    )
    (result,) = (await sent(admin, {"sku": "BOLT-M8", "barcode": None, "metadata": {"a": None}})).json()["results"]
    item = result["item"]
    assert (item["barcode"], item["metadata"], item["external_id"], item["status"]) == (
        None,
        {"b": "2"},
        "x",
        "INACTIVE",
    )
    (result,) = (await sent(admin, {"sku": "BOLT-M8", "status": None, "metadata": None})).json()["results"]
    assert (result["item"]["status"], result["item"]["metadata"]) == ("ACTIVE", {})
    refused = faults(await sent(admin, {"sku": "BOLT-M8", "name": None}), 422, "invalid")
    assert list(refused) == ["/items/0/name"]


async def test_by_external_id_a_sku_can_be_changed(admin: httpx.AsyncClient) -> None:
    item = await make(admin, external_id="shop-1")
    lines = [{"external_id": "shop-1", "sku": "BOLT-M9"}, {"external_id": "shop-2", "sku": "NUT", "name": "Nut"}]
    assert await written(admin, *lines, by="external_id") == ["updated", "created"]
    assert (await admin.get(f"{ITEMS}/{item['id']}")).json()["sku"] == "BOLT-M9"
    refused = await sent(admin, {"external_id": "shop-1", "sku": "NUT"}, {"sku": "X"}, by="external_id", mode="update")
    assert faults(refused, 422, "invalid") == {
        "/items/0/sku": "is that of item 2, NUT",
        "/items/1/external_id": "must be a string: it says which item the line is",
    }


async def test_create_takes_no_item_that_is_there_and_update_none_that_is_not(admin: httpx.AsyncClient) -> None:
    item = await make(admin)
    refused = await sent(admin, line(1), bolt(), mode="create")
    assert faults(refused, 409, "sku-taken") == {"/items/1/sku": f"is that of item {item['id']}, BOLT-M8"}
    assert refused.json()["detail"] == "1 line is refused, so none of the 2 was written."
    refused = await sent(admin, line(1), bolt(name="Bolt"), mode="update")
    assert faults(refused, 422, "invalid") == {"/items/0/sku": "there is no such item"}
    assert await listed(admin) == ["BOLT-M8"]
    assert await written(admin, line(1), bolt(name="B"), mode="update", atomic=False) == ["failed", "updated"]
    assert await written(admin, line(1), bolt(name="B"), mode="create", atomic=False) == ["created", "failed"]


async def test_line_by_line_the_good_ones_are_written_and_each_bad_one_has_its_problem(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    await make(admin, sku="A", barcode="1")
    answer = await sent(
        admin,
        line(1),
        line(2, barcode="1", reorder_point="1.1234567", id=7),
        line(3, barcode="1"),
        {"sku": "A", "name": "B"},
        line(4, unit="pcs", units=[{"unit": "pcs", "numerator": 1, "denominator": 1}]),
        atomic=False,
    )
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["created", "failed", "failed", "updated", "failed"]
    assert [result["item"] is None for result in results] == [False, True, True, False, True]
    problems = [result["problem"] for result in results if result["problem"]]
    assert [problem["type"] for problem in problems] == [
        "/problems/invalid",
        "/problems/barcode-taken",
        "/problems/invalid",
    ]
    assert [[error["pointer"] for error in problem["errors"]] for problem in problems] == [
        ["/items/1/reorder_point", "/items/1/id"],
        ["/items/2/barcode"],
        ["/items/4/units/0/unit"],
    ]
    assert [action for action, _ in await audited(owner)] == ["item.created", "item.created", "item.updated"]
    assert await listed(admin, sort="sku") == ["A", "S0001"]


async def test_a_line_as_it_was_read_is_taken_back_and_a_changed_version_is_not(admin: httpx.AsyncClient) -> None:
    item = await make(admin, reorder_point="2.5", units=[{"unit": "case", "numerator": 12, "denominator": 1}])
    assert await written(admin, item) == ["unchanged"]
    assert await written(admin, {**item, "name": "Bolt"}) == ["updated"]
    refused = await sent(admin, {**item, "name": "Other"})
    assert faults(refused, 422, "invalid") == {
        "/items/0/version": "is read-only",
        "/items/0/updated_at": "is read-only",
    }


# What is refused


async def test_a_name_twice_in_one_request_is_refused_where_it_comes_again(admin: httpx.AsyncClient) -> None:
    """What is composed and decomposed is one name."""
    again = {"sku": "CAFE\u0301", "name": "Coffee"}
    for mode in ("create", "upsert"):
        answer = await sent(admin, {"sku": "CAF\u00c9", "name": "Coffee"}, line(1), again, mode=mode)
        assert list(faults(answer, *((409, "sku-taken") if mode == "create" else (422, "invalid")))) == ["/items/2/sku"]
    answer = await sent(admin, {"sku": "A\u200bB", "name": "What nobody sees"})
    assert "invisible" in faults(answer, 422, "invalid")["/items/0/sku"]
    answer = await sent(
        admin, line(1, barcode="1", external_id="x"), line(2, barcode="1"), line(3, barcode="2", external_id="x")
    )
    assert list(faults(answer, 409, "conflict")) == ["/items/1/barcode", "/items/2/external_id"]
    assert await listed(admin) == []


async def test_a_name_that_another_item_has_is_taken_also_if_a_line_gives_it_free(admin: httpx.AsyncClient) -> None:
    await make(admin, sku="A", barcode="1", external_id="x")
    await make(admin, sku="B", barcode="2", external_id="y")
    swap = [{"sku": "A", "barcode": "2", "external_id": "y"}, {"sku": "B", "barcode": "1"}, line(3, external_id="x")]
    answer = await sent(admin, *swap)
    assert list(faults(answer, 409, "conflict")) == [
        "/items/0/barcode",
        "/items/0/external_id",
        "/items/1/barcode",
        "/items/2/external_id",
    ]
    assert await written(admin, {"sku": "A", "barcode": None}, {"sku": "B", "name": "B"}) == ["updated", "updated"]
    assert await written(admin, {"sku": "B", "barcode": "1"}) == ["updated"]


async def test_unit_and_decimals_stay_once_there_are_entries(admin: httpx.AsyncClient, post: Post) -> None:
    for sku in ("A", "B", "C"):
        await make(admin, sku=sku)
    await make_place(admin)
    await post("IN", "A", "MAIN", "1.25", unit_cost="2")
    await post("IN", "B", "MAIN", "1", unit_cost="2")
    lines = [{"sku": sku, "unit": "kg", "decimals": 1} for sku in ("A", "B", "C")]
    answer = await sent(admin, *lines)
    assert list(faults(answer, 409, "unit-stays")) == ["/items/0/unit", "/items/0/decimals", "/items/1/unit"]
    answer = await sent(admin, *lines, atomic=False)
    first, second, third = answer.json()["results"]
    assert [first["problem"]["type"], second["problem"]["type"]] == ["/problems/unit-stays"] * 2
    assert (first["problem"]["unit"], third["item"]["unit"], third["item"]["decimals"]) == ("pcs", "kg", 1)
    only = await sent(admin, {"sku": "A", "decimals": 1})
    assert faults(only, 409, "decimals-stay") == {"/items/0/decimals": "must be 2 at least"}


async def test_a_deleted_item_is_named_with_what_restores_it(admin: httpx.AsyncClient) -> None:
    item = await make(admin, external_id="x")
    await admin.delete(f"{ITEMS}/{item['id']}")
    for mode in ("update", "upsert"):
        refused = await sent(admin, bolt(name="Bolt"), mode=mode)
        detail = f"is that of the deleted item {item['id']}: restore it first"
        assert faults(refused, 409, "item-deleted") == {"/items/0/sku": detail}
        (result,) = (await sent(admin, bolt(name="Bolt"), mode=mode, atomic=False)).json()["results"]
        assert result["problem"]["item_id"] == item["id"]
    assert list(faults(await sent(admin, bolt(), mode="create"), 409, "sku-taken")) == ["/items/0/sku"]
    # its external id is free
    assert await written(admin, line(1, external_id="x"), by="external_id") == ["created"]
    await admin.post(f"{ITEMS}/{item['id']}/restore")


async def test_the_number_of_lines_and_the_size_of_the_body_are_bounded(admin: httpx.AsyncClient) -> None:
    assert list(faults(await sent(admin), 422, "invalid")) == ["/items"]
    assert list(faults(await sent(admin, *(line(n) for n in range(MOST_ITEMS + 1))), 422, "invalid")) == ["/items"]
    assert list(faults(await admin.post(BULK, json={"items": [line(1), 5, "a"]}), 422, "invalid")) == [
        "/items/1",
        "/items/2",
    ]
    for how, pointer in (({"mode": "replace"}, "/mode"), ({"by": "id"}, "/by"), ({"atomic": 1}, "/atomic")):
        assert list(faults(await sent(admin, line(1), **how), 422, "invalid")) == [pointer]
    large = await sent(admin, *(line(n, description="x" * 1100) for n in range(MOST_ITEMS)))
    assert (large.status_code, large.json()["type"]) == (413, "/problems/too-large")
    (detail,) = faults(await sent(admin, {"sku": "S"}), 422, "invalid").values()
    assert detail == "is missing, and the item is new"
    many = faults(await sent(admin, *({"sku": f"S{n}"} for n in range(MOST_FAULTS + 1))), 422, "invalid")
    assert len(many) == MOST_FAULTS
    assert await listed(admin) == []


async def test_of_a_thousand_lines_one_bad_one_stops_all_and_the_mended_ones_are_written(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    lines = [line(n, reorder_point=str(n), metadata={"n": str(n)}) for n in range(MOST_ITEMS)]
    refused = await sent(admin, *lines[:500], line(500, decimals=7), *lines[501:])
    assert list(faults(refused, 422, "invalid")) == ["/items/500/decimals"]
    assert await owner.fetchval("select count(*) from items") == 0
    assert await audited(owner) == []
    with sent_statements(in_transactions=True) as statements:
        assert await written(admin, *lines) == ["created"] * MOST_ITEMS
        first = len(statements)
        changed = [{**one, "name": "Other"} for one in lines]
        assert await written(admin, *changed) == ["updated"] * MOST_ITEMS
    assert first <= 8
    assert len(statements) - first <= 8
    assert len(await audited(owner)) == 2 * MOST_ITEMS
    assert await owner.fetchval("select count(*) from items where version = 2 and name = 'Other'") == MOST_ITEMS


async def test_numbers_are_exact(admin: httpx.AsyncClient) -> None:
    body = '{"items": [{"sku": "A", "name": "A", "reorder_point": 123456789012.123456}]}'
    answer = await admin.post(BULK, content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["results"][0]["item"]["reorder_point"] == "123456789012.123456"
    body = '{"items": [{"sku": "A", "decimals": 2.5, "reorder_point": 1e2}]}'
    answer = await admin.post(BULK, content=body, headers={"Content-Type": "application/json"})
    assert list(faults(answer, 422, "invalid")) == ["/items/0/decimals", "/items/0/reorder_point"]


async def test_it_is_for_admins(staff: httpx.AsyncClient) -> None:
    assert (await sent(staff, line(1))).status_code == 403


async def test_a_retry_gets_the_first_answer_and_a_refusal_is_not_kept(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    key = {"Idempotency-Key": "sync-1"}
    bad = {"items": [line(1), {"sku": "S2"}]}
    assert (await admin.post(BULK, json=bad, headers=key)).status_code == 422
    good = {"items": [line(1), line(2)]}
    first = await admin.post(BULK, json=good, headers=key)
    again = await admin.post(BULK, json=good, headers=key)
    assert (first.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert again.content == first.content
    assert len(await audited(owner)) == 2


# At once


async def test_upserts_of_the_same_new_items_at_once_make_each_once(
    admin: UserClient, owner: asyncpg.Connection
) -> None:
    """Every other one has the lines in the opposite order, and a barcode for each."""
    lines = [line(n, barcode=str(n)) for n in range(60)]
    answers = await asyncio.gather(*(sent(admin, *(lines if n % 2 else lines[::-1])) for n in range(6)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text[:200] for answer in answers]
    statuses = [result["status"] for answer in answers for result in answer.json()["results"]]
    assert statuses.count("created") == len(lines)
    assert set(statuses) == {"created", "unchanged"}
    assert await owner.fetchval("select count(*) from items") == len(lines)
    assert len(await audited(owner)) == len(lines)


async def test_changes_of_the_same_items_at_once_in_any_order_and_postings_of_them_never_deadlock(
    admin: UserClient, post: Post, owner: asyncpg.Connection
) -> None:
    lines = [line(n) for n in range(40)]
    await sent(admin, *lines)
    await make_place(admin)
    receipts = [
        {"transaction_type": "IN", "sku": one["sku"], "location": "MAIN", "quantity": 1, "unit_cost": 1}
        for one in lines
    ]

    def one(n: int) -> Any:
        if n % 3 == 2:
            movements = receipts if n % 2 else receipts[::-1]
            return admin.post("/api/v1/inventory/stock/movements", json={"movements": movements})
        changed = [{**given, "name": f"edit {n}", "barcode": f"{n % 2}-{given['sku']}"} for given in lines]
        return sent(admin, *(changed if n % 2 else changed[::-1]))

    answers = await asyncio.gather(*(one(n) for n in range(12)))
    assert {answer.status_code for answer in answers} == {200, 201}, [answer.text[:200] for answer in answers]
    assert await owner.fetchval("select count(*) from items where version = 9") == len(lines)


@pytest.mark.parametrize("atomic", [True, False])
async def test_an_item_that_is_just_being_made_by_another_is_changed_by_an_upsert(
    admin: UserClient, database: Database, waiting: Waiting, atomic: bool
) -> None:
    await make(admin, sku="S0002")
    async with database.write() as db:
        await items.create(db, system("test"), ItemBody(sku=SkuText("S0001"), name=NameText("of another")))
        upsert = asyncio.create_task(written(admin, *(line(n) for n in range(3)), atomic=atomic))
        await eventually(waiting)
    assert await upsert == ["created", "updated", "updated"]
    assert (await admin.get(ITEMS, params={"sku": "S0001"})).json()["items"][0]["version"] == 2


async def test_a_name_that_is_just_being_taken_by_another_is_a_conflict_that_names_it(
    admin: UserClient, database: Database, waiting: Waiting
) -> None:
    for mode, sku, slug, field in (("create", "S1", "sku-taken", "sku"), ("upsert", "S2", TAKEN, "external_id")):
        async with database.write() as db:
            body = ItemBody(sku=SkuText(sku), name=NameText("of another"), external_id=ExternalIdText(sku))
            await items.create(db, system("test"), body)
            own = {"sku": "S1" if mode == "create" else "MINE", "name": "mine"}
            own |= {"external_id": "S2"} if mode == "upsert" else {}
            write = asyncio.create_task(sent(admin, line(7), own, mode=mode))
            await eventually(waiting)
        assert list(faults(await write, 409, slug)) == [f"/items/1/{field}"]
    assert await listed(admin) == ["S1", "S2"]


async def test_a_name_that_is_taken_while_a_line_changes_an_item_to_it_is_a_conflict(
    admin: UserClient, database: Database, waiting: Waiting
) -> None:
    await make(admin, sku="S0000")
    async with database.write() as db:
        await items.create(db, system("test"), ItemBody(sku=SkuText("A"), name=NameText("A"), barcode=BarcodeText("1")))
        write = asyncio.create_task(sent(admin, line(0, barcode="1"), line(1)))
        await eventually(waiting)
    refused = await write
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/barcode-taken")
    assert await listed(admin) == ["S0000", "A"]


async def test_a_bulk_waits_for_a_posting_of_its_items(admin: UserClient, database: Database, waiting: Waiting) -> None:
    await make(admin)
    await make_place(admin)
    async with database.write() as db:
        held = await row_locks.lock_rows(db, [Wanted("BOLT-M8", "MAIN")])
        write = asyncio.create_task(sent(admin, bolt(unit="kg")))
        await eventually(waiting)
        await ledger.post(db, system("test"), [receipt(held)], held)
    assert list(faults(await write, 409, "unit-stays")) == ["/items/0/unit"]
