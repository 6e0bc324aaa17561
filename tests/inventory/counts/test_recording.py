"""What was counted, and what the books said at that moment."""

from typing import Any

import asyncpg
import httpx
import pytest

from tests.inventory.books import BOLT, post, stocked
from tests.inventory.counts.counting import COUNTS, lines, lines_of, open_count, posted, recorded


async def faults(client: httpx.AsyncClient, count: str, *said: dict[str, Any]) -> dict[str, str]:
    answer = await client.put(f"{COUNTS}/{count}/lines", json={"lines": said})
    assert answer.status_code == 422, answer.text
    return {fault["pointer"]: fault["detail"] for fault in answer.json()["errors"]}


async def test_line_says_what_the_books_said_when_it_was_counted(
    staff: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(staff, "in", **BOLT, quantity="10")
    count = await open_count(staff, BOLT="8", NUT="1.5")
    await post(staff, "out", **BOLT, quantity="4")
    bolt, nut = (await lines(staff, count)).values()
    assert [bolt[name] for name in ("counted", "expected", "difference", "moved")] == ["8", "10", "-2", True]
    assert [nut[name] for name in ("counted", "expected", "difference", "moved")] == ["1.5", "0", "1.5", False]
    assert await recorded(staff, count, {"sku": "BOLT", "counted": "6"})
    again = (await lines(staff, count))["BOLT"]
    assert [again[name] for name in ("counted", "expected", "difference", "moved")] == ["6", "6", "0", False]
    assert list(await lines(staff, count, differing=True)) == ["NUT"]
    assert list(await lines(staff, count, sku="BOLT")) == ["BOLT"]


async def test_line_named_again_replaces_and_null_removes_and_others_stay(
    staff: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    count = await open_count(staff, BOLT="8", NUT="1")
    seen = await recorded(staff, count, {"sku": "BOLT", "counted": "9"})
    assert (seen["lines"], seen["differing"], seen["moved"], seen["version"]) == (2, 2, 0, 3)
    seen = await recorded(staff, count, {"sku": "NUT", "counted": None}, {"sku": "BOLT", "counted": "0"})
    assert (seen["lines"], seen["differing"]) == (1, 0)
    assert {sku: line["counted"] for sku, line in (await lines(staff, count)).items()} == {"BOLT": "0"}
    audit = await shelves.fetch("select after::text from audit_log where action = 'count.lines_changed' order by id")
    assert [row[0] for row in audit] == ['{"removed": 0, "recorded": 1}', '{"removed": 1, "recorded": 1}']


async def test_items_are_named_in_four_ways_and_counted_in_packs(
    staff: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    id_ = await shelves.fetchval(
        "update items set units = $1, decimals = 0, barcode = '4006381333931', external_id = 'X-1' where sku = 'BOLT'"
        " returning id",
        '[{"unit": "box", "numerator": 12, "denominator": 1}]',
    )
    count = await open_count(staff)
    for name in ({"item_id": id_}, {"sku": "BOLT"}, {"barcode": "4006381333931"}, {"external_id": "X-1"}):
        await recorded(staff, count, {**name, "counted": "3", "unit": "box", "unit_cost": "6"})
        line = (await lines(staff, count))["BOLT"]
        assert (line["counted"], line["unit"], line["unit_cost"]) == ("36", "pcs", "0.5")
    wrong = await faults(staff, count, {"sku": "BOLT", "counted": "0.5"}, {"sku": "NUT", "counted": 1, "unit": "box"})
    assert wrong.keys() == {"/lines/0/counted", "/lines/1/unit"}


async def test_every_bad_line_is_named_and_nothing_is_recorded(
    staff: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    count = await open_count(staff, BOLT="1")
    found = await faults(
        staff,
        count,
        {"sku": "BOLT", "counted": "5"},
        {"sku": "GONE", "counted": "1"},
        {"counted": "1"},
        {"sku": "BOLT", "barcode": "1", "counted": "1"},
        {"sku": "BOLT", "counted": "1"},
        {"sku": "NUT", "counted": "1", "unit_cost": "1", "total_cost": "1"},
        {"sku": "NUT", "counted": "0", "total_cost": "1"},
        {"sku": "NUT", "counted": None, "unit_cost": "1"},
    )
    assert found.keys() == {
        "/lines/1/sku",
        "/lines/2/item_id",
        "/lines/3/barcode",
        "/lines/4/sku",
        "/lines/5/total_cost",
        "/lines/6/total_cost",
        "/lines/6/sku",
        "/lines/7/unit_cost",
        "/lines/7/sku",
    }
    assert found["/lines/4/sku"] == "is the same item as /lines/0"
    assert {sku: line["counted"] for sku, line in (await lines(staff, count)).items()} == {"BOLT": "1"}


@pytest.mark.parametrize("line", [{}, {"counted": "-1"}, {"counted": "NaN"}, {"counted": "1.1234567"}, {"count": 1}])
async def test_what_is_no_quantity_is_not_counted(
    staff: httpx.AsyncClient, shelves: asyncpg.Connection, line: dict[str, Any]
) -> None:
    count = await open_count(staff)
    assert set(await faults(staff, count, {"sku": "BOLT", **line})) <= {"/lines/0/counted", "/lines/0/count"}
    assert await faults(staff, count) == {"/lines": "Expected `array` of length >= 1"}


async def test_fault_in_the_last_of_5_000_lines_is_named(staff: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    count = await open_count(staff)
    many = [{"sku": f"S{n}", "counted": "1"} for n in range(4_999)]
    found = await faults(staff, count, *many, {"sku": "BOLT", "counted": "one"})
    assert found == {"/lines/4999/counted": "is not a plain decimal number such as 12.5"}
    assert await faults(staff, count, *many, *lines_of({"BOLT": 1, "NUT": 1})) == {
        "/lines": "Expected `array` of length <= 5000"
    }


async def test_count_is_of_a_location_that_is_there(staff: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    for body, pointer in (
        ({}, "/location_id"),
        ({"location": "NOWHERE"}, "/location"),
        ({"location": "MAIN", "location_id": 1}, "/location"),
    ):
        answer = await staff.post(COUNTS, json=body)
        assert (answer.status_code, [f["pointer"] for f in answer.json()["errors"]]) == (422, [pointer]), body
    unknown = "00000000-0000-7000-8000-000000000000"
    for path in ("", "/lines"):
        assert (await staff.get(f"{COUNTS}/{unknown}{path}")).status_code == 404
    answer = await staff.put(f"{COUNTS}/{unknown}/lines", json={"lines": lines_of({"BOLT": 1})})
    assert answer.status_code == 404


async def test_counts_are_listed_newest_first_by_status_and_place(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await shelves.execute("update locations set parent_id = (select id from locations where code = 'MAIN')"
                          " where code = 'BIN-1'")  # fmt: skip
    main, below, shop = [await open_count(admin, code) for code in ("MAIN", "BIN-1", "SHOP")]
    await posted(admin, shop)

    async def listed(**params: Any) -> list[str]:
        answer = await admin.get(COUNTS, params=params)
        assert answer.status_code == 200, answer.text
        return [count["id"] for count in answer.json()["items"]]

    main_id = await shelves.fetchval("select id from locations where code = 'MAIN'")
    assert await listed() == [shop, below, main]
    assert await listed(status="OPEN") == [below, main]
    assert await listed(location="MAIN") == await listed(location_id=main_id) == [main]
    assert await listed(location="MAIN", descendants=True) == [below, main]
    assert await listed(location="NOWHERE", descendants=True) == []
    first = (await admin.get(COUNTS, params={"limit": 2})).json()
    assert await listed(limit=2, cursor=first["next_cursor"]) == [main]
    answer = await admin.get(COUNTS, params={"location": "MAIN", "location_id": main_id})
    assert answer.status_code == 422


async def test_etag_changes_with_the_lines_and_with_what_moves(
    staff: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(staff, "in", **BOLT, quantity="10")
    count = await open_count(staff, BOLT="8")
    path, change = f"{COUNTS}/{count}", {"lines": lines_of({"NUT": 1})}
    tag = (await staff.get(path)).headers["ETag"]
    assert (await staff.get(path, headers={"If-None-Match": tag})).status_code == 304
    await post(staff, "out", **BOLT, quantity="1")
    moved = await staff.get(path, headers={"If-None-Match": tag})
    assert (moved.status_code, moved.json()["moved"]) == (200, 1)
    assert (await staff.put(f"{path}/lines", json=change, headers={"If-Match": tag})).status_code == 412
    answer = await staff.put(f"{path}/lines", json=change, headers={"If-Match": moved.headers["ETag"]})
    assert (answer.status_code, answer.headers["ETag"]) == (200, (await staff.get(path)).headers["ETag"])


async def test_retry_with_the_same_key_does_not_read_the_books_again(
    staff: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    """The answer was lost, and a piece was sold before the retry: it was there when it was counted."""
    await post(staff, "in", **BOLT, quantity="10")
    count = await open_count(staff)
    body, key = {"lines": lines_of({"BOLT": 10})}, {"Idempotency-Key": "shelf-7"}
    first = await staff.put(f"{COUNTS}/{count}/lines", json=body, headers=key)
    await post(staff, "out", **BOLT, quantity="1")
    again = await staff.put(f"{COUNTS}/{count}/lines", json=body, headers=key)
    assert (again.status_code, again.content) == (200, first.content)
    assert (await lines(staff, count))["BOLT"]["expected"] == "10"


async def test_lines_of_a_count_that_has_ended_stay(admin: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    count = await open_count(admin, BOLT="8")
    await posted(admin, count)
    answer = await admin.put(f"{COUNTS}/{count}/lines", json={"lines": lines_of({"BOLT": 9})})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/count-ended")
    for change in (
        "update stock_counts set status = 'OPEN', ended_at = null, differences = null, transaction_id = null",
        "update stock_counts set notes = 'x'",
        "delete from stock_counts",
        "update stock_count_lines set counted = 9",
        "delete from stock_count_lines",
        "insert into stock_count_lines (count_id, item_id, counted, expected) select id, 2, 1, 1 from stock_counts",
    ):
        with pytest.raises(asyncpg.CheckViolationError, match="ended stay"):
            await shelves.execute(change)
    other = await open_count(admin, NUT="1")
    with pytest.raises(asyncpg.CheckViolationError, match="ended stay"):
        await shelves.execute("update stock_count_lines set count_id = $1 where count_id <> $1", other)
    with pytest.raises(asyncpg.CheckViolationError, match="ended stay"):
        await shelves.execute("update stock_count_lines set count_id = $1 where count_id <> $1", count)


async def test_database_refuses_a_posted_count_whose_document_is_missing(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await open_count(admin, BOLT="8")
    for values in (
        "status = 'POSTED', ended_at = now()",
        "status = 'POSTED', ended_at = now(), differences = 1",
        "status = 'POSTED', differences = 0",
        "status = 'CANCELED', ended_at = now(), differences = 0",
        "status = 'CANCELED'",
        "ended_at = now()",
        "status = 'LOST', ended_at = now()",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await shelves.execute(f"update stock_counts set {values}")


async def test_each_difference_has_its_value_and_the_count_their_sums(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    """At the moving average, at the cost that a line states, at the last cost; and as it was booked in the end."""
    await stocked(shelves, "PIN", "CAP", "RING", free=False)
    await post(admin, "in", **BOLT, quantity="3", unit_cost="1")
    await post(admin, "in", **BOLT, quantity="3", unit_cost="2.01")
    await post(admin, "in", sku="PIN", location="MAIN", quantity="1", unit_cost="7")
    await post(admin, "out", sku="PIN", location="MAIN", quantity="1")
    count = await open_count(admin, BOLT="4", PIN="2", NUT="0", RING="1")
    said = {"sku": "CAP", "counted": "3", "total_cost": "10"}
    seen = await recorded(admin, count, said)
    values = {sku: line["value"] for sku, line in (await lines(admin, count)).items()}
    assert values == {"BOLT": "-3.01", "PIN": "14", "NUT": "0", "RING": None, "CAP": "10"}
    assert (seen["found_value"], seen["missing_value"]) == ("24", "-3.01")
    who = await shelves.fetchval("select full_name from users where id = $1", seen["user_id"])
    assert {line["user_name"] for line in (await lines(admin, count)).values()} == {seen["user_name"]} == {who}
    await recorded(admin, count, {"sku": "RING", "counted": None})
    done = await posted(admin, count)
    assert (done["found_value"], done["missing_value"]) == ("24", "-3.01")
    booked = await shelves.fetch(
        "select trim_scale(value)::text from stock_ledger where origin = 'COUNT' order by line"
    )
    assert sorted(row[0] for row in booked) == ["-3.01", "10", "14"]
    other = await open_count(admin, BOLT="1")
    assert (await admin.post(f"{COUNTS}/{other}/cancel")).status_code == 200
    assert (await lines(admin, other))["BOLT"]["value"] is None


async def test_what_is_on_hand_and_has_no_line_is_listed_until_the_count_ends(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="3")
    await post(admin, "in", sku="NUT", location="MAIN", quantity="2")
    await post(admin, "in", sku="NUT", location="SHOP", quantity="2")
    await post(admin, "out", **BOLT, quantity="3")
    count = await open_count(admin)

    async def uncounted() -> list[tuple[str, str]]:
        answer = await admin.get(f"{COUNTS}/{count}/uncounted")
        return [(one["sku"], one["on_hand"]) for one in answer.json()["items"]]

    assert await uncounted() == [("NUT", "2")]
    await post(admin, "in", **BOLT, quantity="1")
    first = (await admin.get(f"{COUNTS}/{count}/uncounted", params={"limit": 1})).json()
    assert [one["sku"] for one in first["items"]] == ["BOLT"]
    after = {"limit": 1, "cursor": first["next_cursor"]}
    rest = (await admin.get(f"{COUNTS}/{count}/uncounted", params=after)).json()
    assert ([one["sku"] for one in rest["items"]], rest["next_cursor"]) == (["NUT"], None)
    await recorded(admin, count, {"sku": "NUT", "counted": "0"})
    assert await uncounted() == [("BOLT", "1")]
    await posted(admin, count)
    assert await uncounted() == []
    nobodys = COUNTS + "/01890000-0000-7000-8000-000000000000/uncounted"
    assert (await admin.get(nobodys)).status_code == 404
