"""What a count books: differences, at the right value, and never what moved in between."""

import asyncio

import asyncpg
import httpx
import pytest

from tests.inventory.books import BOLT, PATH, balance, post, worth
from tests.inventory.counts.counting import COUNTS, entries, lines, open_count, posted, recorded, refused

NUT = {"sku": "NUT", "location": "MAIN"}


async def test_count_that_finds_two_pieces_on_the_next_shelf_loses_ten_euros(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    """Which shelf a thing lies on does not change what it is worth."""
    await post(admin, "in", sku="BOLT", location="BIN-1", quantity="10", unit_cost="5")
    first = await posted(admin, await open_count(admin, "BIN-1", BOLT="8"))
    second = await posted(admin, await open_count(admin, "BIN-2", BOLT="2"))
    assert await entries(shelves, first["transaction_id"]) == ["ADJUSTMENT COUNT BOLT BIN-1 -2 -10"]
    assert await entries(shelves, second["transaction_id"]) == ["ADJUSTMENT COUNT BOLT BIN-2 2 10"]
    assert await worth(shelves, "BOLT") == "10 50"
    assert [await balance(shelves, "BOLT", code) for code in ("BIN-1", "BIN-2")] == ["8 40", "2 10"]


async def test_all_of_it_on_the_next_shelf_is_worth_the_same(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", sku="BOLT", location="BIN-1", quantity="10", unit_cost="5")
    await posted(admin, await open_count(admin, "BIN-1", BOLT="0"))
    await posted(admin, await open_count(admin, "BIN-2", BOLT="10"))
    assert await worth(shelves, "BOLT") == "10 50"


async def test_count_is_one_document_of_its_differences_alone(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="10", unit_cost="5")
    await post(admin, "in", **NUT, quantity="4", unit_cost="1")
    answer = await admin.post(
        COUNTS,
        json={"location": "MAIN", "reference_no": "C-1", "lines": [{"sku": "BOLT", "counted": 7}]},
    )
    opened = answer.json()
    assert answer.headers["Location"] == f"{COUNTS}/{opened['id']}"
    await recorded(admin, opened["id"], {"sku": "NUT", "counted": "4"})
    done = await posted(admin, opened["id"], reason="January")
    assert (done["status"], done["lines"], done["differing"], done["moved"]) == ("POSTED", 2, 1, None)
    assert await entries(shelves, done["transaction_id"]) == ["ADJUSTMENT COUNT BOLT MAIN -3 -15"]
    document = (await admin.get(f"{PATH}/transactions/{done['transaction_id']}")).json()
    assert [(e["reason"], e["reference_no"]) for e in document["entries"]] == [("January", "C-1")]
    listed = (await admin.get(COUNTS, params={"transaction_id": done["transaction_id"]})).json()["items"]
    assert [count["id"] for count in listed] == [opened["id"]]
    assert {sku: line["document_line"] for sku, line in (await lines(admin, opened["id"])).items()} == {
        "BOLT": 1,
        "NUT": None,
    }
    actions = await shelves.fetch("select action, reason from audit_log where entity = 'count' order by id")
    assert [tuple(row) for row in actions] == [
        ("count.opened", None),
        ("count.lines_changed", None),
        ("count.posted", "January"),
    ]


async def test_count_without_a_difference_is_posted_without_a_document(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="10")
    done = await posted(admin, await open_count(admin, BOLT="10"))
    assert (done["status"], done["transaction_id"], done["differing"]) == ("POSTED", None, 0)
    empty = await posted(admin, await open_count(admin))
    assert (empty["status"], empty["lines"]) == ("POSTED", 0)
    assert await shelves.fetchval("select count(*) from stock_transactions") == 1


async def test_movement_between_counting_and_posting_is_named_and_not_undone(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="10", unit_cost="5")
    await post(admin, "in", **NUT, quantity="10", unit_cost="5")
    count = await open_count(admin, BOLT="8", NUT="9")
    await post(admin, "out", **BOLT, quantity="3")
    problem = await refused(admin, count)
    bolt = (await lines(admin, count))["BOLT"]["item_id"]
    line = {"item_id": bolt, "sku": "BOLT", "counted": "8", "expected": "10", "on_hand": "7", "count_again": False}
    assert (problem["type"], problem["moved"], problem["lines"]) == ("/problems/stock-moved", 1, [line])
    assert (await admin.get(f"{COUNTS}/{count}")).json()["moved"] == 1
    assert list(await lines(admin, count, moved=True)) == ["BOLT"]
    done = await posted(admin, count, accept_moved=True)
    assert await entries(shelves, done["transaction_id"]) == [
        "ADJUSTMENT COUNT BOLT MAIN -2 -10",
        "ADJUSTMENT COUNT NUT MAIN -1 -5",
    ]
    assert await balance(shelves, "BOLT", "MAIN") == "5 25"


async def test_stock_that_went_out_and_came_back_has_moved(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    """The balance is the same as before, so only the entries tell."""
    await post(admin, "in", **BOLT, quantity="10")
    count = await open_count(admin, BOLT="10")
    for what in ("out", "in"):
        await post(admin, what, **BOLT, quantity="1")
    problem = await refused(admin, count)
    assert [(line["expected"], line["on_hand"]) for line in problem["lines"]] == [("10", "10")]


async def test_movements_at_another_location_and_of_value_alone_move_nothing(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="10", unit_cost="5")
    count = await open_count(admin, BOLT="9")
    await post(admin, "in", sku="BOLT", location="SHOP", quantity="10", unit_cost="7")
    await post(admin, "revaluation", sku="BOLT", difference="20", reason="freight")
    done = await posted(admin, count)
    assert await entries(shelves, done["transaction_id"]) == ["ADJUSTMENT COUNT BOLT MAIN -1 -7"]


async def test_two_counts_of_one_item_are_not_both_applied(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    """Both found the same difference. It is no movement that could be accepted."""
    await post(admin, "in", **BOLT, quantity="10", unit_cost="5")
    one, other = await open_count(admin, BOLT="8"), await open_count(admin, BOLT="8")
    await posted(admin, one)
    for accept in (False, True):
        problem = await refused(admin, other, accept_moved=accept)
        assert [(line["sku"], line["count_again"]) for line in problem["lines"]] == [("BOLT", True)]
    await recorded(admin, other, {"sku": "BOLT", "counted": "8"})
    assert (await posted(admin, other))["transaction_id"] is None
    assert await balance(shelves, "BOLT", "MAIN") == "8 40"


async def test_count_sets_and_does_not_add(admin: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    """Complaint 67: counted 12 where the books said 10 made 22."""
    await post(admin, "in", **BOLT, quantity="10", unit_cost="5")
    count = await open_count(admin, BOLT="4")
    await recorded(admin, count, {"sku": "BOLT", "counted": "12"})
    await posted(admin, count)
    assert await balance(shelves, "BOLT", "MAIN") == "12 60"


@pytest.mark.parametrize(("counted", "left"), [("0", "0 0"), ("4", "4 20")])
async def test_negative_stock_is_counted(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection, counted: str, left: str
) -> None:
    await post(admin, "revaluation", sku="BOLT", unit_value="5", reason="price list")
    await post(admin, "out", sku="BOLT", location="YARD-", quantity="3")
    done = await posted(admin, await open_count(admin, "YARD-", BOLT=counted))
    assert len(await entries(shelves, done["transaction_id"])) == 1
    assert await balance(shelves, "BOLT", "YARD-") == left


async def test_uncounted_zero_books_the_rest_of_the_location(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="10", unit_cost="5")
    await post(admin, "in", **NUT, quantity="4", unit_cost="1")
    await post(admin, "in", sku="NUT", location="SHOP", quantity="1", unit_cost="1")
    stays = await posted(admin, await open_count(admin, BOLT="10"))
    assert stays["transaction_id"] is None
    done = await posted(admin, await open_count(admin, BOLT="9"), uncounted="zero")
    assert await entries(shelves, done["transaction_id"]) == [
        "ADJUSTMENT COUNT BOLT MAIN -1 -5",
        "ADJUSTMENT COUNT NUT MAIN -4 -4",
    ]
    added = (await lines(admin, done["id"]))["NUT"]
    assert (added["counted"], added["expected"], added["counted_at"]) == ("0", "4", None)
    assert await worth(shelves, "NUT") == "1 1"
    audit = await shelves.fetchval(
        "select after->>'uncounted' from audit_log where action = 'count.posted' order by id desc"
    )
    assert audit == "1"


async def test_delivery_during_a_count_is_not_set_to_zero(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    """Nobody counted it, since it was not there yet. Accepting what moved would not say what to do with it either."""
    await post(admin, "in", **BOLT, quantity="10")
    count = await open_count(admin, BOLT="10")
    await post(admin, "in", **NUT, quantity="4")
    for accept in (False, True):
        problem = await refused(admin, count, uncounted="zero", accept_moved=accept)
        assert [(line["sku"], line["counted"], line["count_again"]) for line in problem["lines"]] == [
            ("NUT", None, True)
        ]
    assert list(await lines(admin, count)) == ["BOLT"], "nothing of a refused posting stays"
    await recorded(admin, count, {"sku": "NUT", "counted": "4"})
    assert (await posted(admin, count, uncounted="zero"))["transaction_id"] is None


async def test_what_is_reserved_is_not_missing(admin: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    await post(admin, "in", **BOLT, quantity="10")
    held = {**BOLT, "quantity": "8", "expires_in_seconds": 3600}
    assert (await admin.post("/api/v1/inventory/reservations", json=held)).status_code == 201
    count = await open_count(admin, BOLT="7")
    problem = await refused(admin, count)
    assert (problem["type"], problem["available"]) == ("/problems/insufficient-stock", "2")
    assert "BOLT" in problem["detail"]
    assert problem["item_id"] == (await lines(admin, count))["BOLT"]["item_id"]
    await shelves.execute("set session_replication_role = replica")
    await shelves.execute("update stock_reservations set expires_at = now() - interval '1 second'")
    await posted(admin, count)
    assert await balance(shelves, "BOLT", "MAIN") == "7 0", "what has expired blocks nobody"


async def test_what_is_found_without_a_known_cost_asks_for_one(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    """Every line that needs one is named, and its own cost answers."""
    await shelves.execute("update stock_values set last_cost = null")
    count = await open_count(admin, BOLT="2", NUT="3")
    problem = await refused(admin, count)
    assert problem["type"] == "/problems/cost-unknown"
    assert ["BOLT" in fault["detail"] or "NUT" in fault["detail"] for fault in problem["errors"]] == [True, True]
    await recorded(
        admin,
        count,
        {"sku": "BOLT", "counted": "2", "unit_cost": "1.25"},
        {"sku": "NUT", "counted": "3", "total_cost": "10"},
    )
    await posted(admin, count)
    assert [await worth(shelves, sku) for sku in ("BOLT", "NUT")] == ["2 2.5", "3 10"]


async def test_cost_of_all_that_was_counted_is_shared_by_what_was_found(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="1", unit_cost="5")
    count = await open_count(admin)
    await recorded(admin, count, {"sku": "BOLT", "counted": "3", "total_cost": "10"})
    done = await posted(admin, count)
    assert await entries(shelves, done["transaction_id"]) == ["ADJUSTMENT COUNT BOLT MAIN 2 6.6667"]


async def test_million_grams_for_445(admin: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    count = await open_count(admin)
    await recorded(admin, count, {"sku": "BOLT", "counted": "1000000", "total_cost": "445.00"})
    await recorded(admin, count, {"sku": "NUT", "counted": "7000000", "total_cost": "1000.01"})
    await posted(admin, count)
    assert await worth(shelves, "BOLT") == "1000000 445"
    assert await worth(shelves, "NUT") == "7000000 1000.01"


async def test_item_that_was_deleted_since_is_named(admin: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    count = await open_count(admin, BOLT="2", NUT="1")
    await shelves.execute("update items set deleted_at = now() where sku = 'NUT'")
    problem = await refused(admin, count)
    assert (problem["type"], "NUT" in problem["detail"], "BOLT" in problem["detail"]) == (
        "/problems/conflict",
        True,
        False,
    )
    await shelves.execute("update items set deleted_at = null; update locations set deleted_at = now()")
    assert "MAIN was deleted" in (await refused(admin, count))["detail"]


async def test_posting_a_count_twice_is_refused_and_a_retry_gets_the_first_answer(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="10")
    count = await open_count(admin, BOLT="8")
    key = {"Idempotency-Key": "post-once"}
    first = await admin.post(f"{COUNTS}/{count}/post", json={}, headers=key)
    again = await admin.post(f"{COUNTS}/{count}/post", json={}, headers=key)
    assert (again.status_code, again.content, again.headers["Idempotency-Replayed"]) == (200, first.content, "true")
    problem = await refused(admin, count)
    assert (problem["type"], problem["count_status"]) == ("/problems/count-ended", "POSTED")
    assert problem["transaction_id"] == first.json()["transaction_id"]
    assert await balance(shelves, "BOLT", "MAIN") == "8 0"


async def test_count_that_was_canceled_books_nothing(admin: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    await post(admin, "in", **BOLT, quantity="10")
    count = await open_count(admin, BOLT="8")
    done = (await admin.post(f"{COUNTS}/{count}/cancel")).json()
    assert (done["status"], done["transaction_id"], done["lines"]) == ("CANCELED", None, 1)
    assert done["ended_at"] is not None
    assert (await refused(admin, count))["count_status"] == "CANCELED"
    again = await admin.post(f"{COUNTS}/{count}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/count-ended")
    assert await balance(shelves, "BOLT", "MAIN") == "10 0"


async def test_a_mistaken_count_is_reversed_like_any_document(
    admin: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    await post(admin, "in", **BOLT, quantity="10", unit_cost="5")
    done = await posted(admin, await open_count(admin, BOLT="8", NUT="3"))
    answer = await admin.post(f"{PATH}/transactions/{done['transaction_id']}/reverse", json={"reason": "mistake"})
    assert answer.status_code == 201, answer.text
    assert await worth(shelves, "BOLT") == "10 50"


async def test_only_an_admin_posts_and_cancels(
    staff: httpx.AsyncClient, viewer: httpx.AsyncClient, shelves: asyncpg.Connection
) -> None:
    count = await open_count(staff, BOLT="1")
    for what in ("post", "cancel"):
        assert (await staff.post(f"{COUNTS}/{count}/{what}", json={})).status_code == 403
    assert [(await viewer.get(path)).status_code for path in (COUNTS, f"{COUNTS}/{count}")] == [403, 403]


async def test_closed_period_takes_no_count(admin: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    """What is posted now is in none, so a count can be posted whatever is closed."""
    await shelves.execute("update company set closed_through = current_date - 1, closed_at = now()")
    await posted(admin, await open_count(admin, BOLT="1"))


async def test_many_at_once_post_a_count_once(admin: httpx.AsyncClient, shelves: asyncpg.Connection) -> None:
    await post(admin, "in", **BOLT, quantity="10")
    count = await open_count(admin, BOLT="8")
    answers = await asyncio.gather(*(admin.post(f"{COUNTS}/{count}/post", json={}) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 5]
    assert await balance(shelves, "BOLT", "MAIN") == "8 0"
