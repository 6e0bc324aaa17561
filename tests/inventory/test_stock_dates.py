"""When things happened: what is dated back must fit what happened since, and a closed period takes nothing."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg
import httpx
import pytest

from erp_service import errors
from erp_service.access.principals import Principal, system
from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.decimals import Quantity
from erp_service.inventory.posting import service
from erp_service.inventory.posting.schemas import Receipt
from erp_service.inventory.problems import PeriodClosed
from tests.inventory.books import BOLT, PATH, pointers, post
from tests.support.company import close_through
from tests.support.statements import Waiting, sent_statements
from tests.support.waiting import eventually

JANUARY = "2026-01-{:02}T12:00:00Z"
OWNER = Principal(1, Role.SUPER_ADMIN)
BODY = BOLT | {"quantity": "1"}


async def test_a_sale_that_is_dated_back_must_fit_what_happened_since(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    """10 came on the 5th and 8 of them left on the 20th: so on the 10th no more than 2 can have left."""
    await post(staff, "in", **BOLT, quantity="10", occurred_at=JANUARY.format(5))
    await post(staff, "out", **BOLT, quantity="8", occurred_at=JANUARY.format(20))
    await post(staff, "in", **BOLT, quantity="10", occurred_at=JANUARY.format(25))
    answer = await staff.post(f"{PATH}/out", json=BOLT | {"quantity": "3", "occurred_at": JANUARY.format(10)})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "/problems/insufficient-stock")
    assert (problem["available"], problem["breaks_at"]) == ("2", JANUARY.format(20))
    assert [fault["pointer"] for fault in problem["errors"]] == ["/quantity"]
    await post(staff, "out", **BOLT, quantity="2", occurred_at=JANUARY.format(10))
    await post(staff, "out", **BOLT, quantity="10", occurred_at=JANUARY.format(25))
    before_all = BOLT | {"quantity": "1", "occurred_at": JANUARY.format(4)}
    assert await pointers(staff, "out", before_all, 409) == ["/quantity"]


async def test_lines_of_a_document_fit_the_history_together(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await post(staff, "in", **BOLT, quantity="5", occurred_at=JANUARY.format(20))
    earlier = {"occurred_at": JANUARY.format(10)}
    out = BOLT | earlier | {"transaction_type": "OUT", "quantity": "3"}
    come = BOLT | earlier | {"transaction_type": "IN", "quantity": "3"}
    late = come | {"occurred_at": JANUARY.format(11)}
    assert await pointers(staff, "movements", {"movements": [come, out, out]}, 409) == ["/movements/1/quantity"]
    assert await pointers(staff, "movements", {"movements": [late, out]}, 409) == ["/movements/1/quantity"]
    await post(staff, "movements", movements=[come, out])
    move = {"sku": "BOLT", "from_location": "MAIN", "to_location": "SHOP", "quantity": "1"}
    assert await pointers(staff, "transfer", move | earlier, 409) == ["/quantity"]


async def test_where_stock_may_be_negative_no_history_is_asked(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    yard = {"sku": "BOLT", "location": "YARD-"}
    await post(staff, "in", **yard, quantity="5", occurred_at=JANUARY.format(20))
    await post(staff, "out", **yard, quantity="3", occurred_at=JANUARY.format(10))


async def test_only_what_is_dated_back_asks_the_ledger(staff: httpx.AsyncClient, books: asyncpg.Connection) -> None:
    await post(staff, "in", **BOLT, quantity="9", occurred_at=JANUARY.format(5))
    with sent_statements() as in_order:
        await post(staff, "out", **BOLT, quantity="1", occurred_at=JANUARY.format(6))
    with sent_statements() as dated_back:
        await post(staff, "out", **BOLT, quantity="1", occurred_at=JANUARY.format(5))
    assert len(dated_back) == len(in_order) + 1


async def test_a_stock_from_before_its_last_times_were_known_learns_them(
    staff: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    await post(staff, "in", **BOLT, quantity="9", occurred_at=JANUARY.format(5))
    await post(staff, "out", **BOLT, quantity="9", occurred_at=JANUARY.format(9))
    await post(staff, "in", **BOLT, quantity="9", occurred_at=JANUARY.format(11))
    await books.execute("update stock_balances set last_occurred_at = null")
    assert await pointers(staff, "out", BODY | {"occurred_at": JANUARY.format(6)}, 409) == ["/quantity"]
    await post(staff, "in", **BODY, occurred_at=JANUARY.format(7))
    last = await books.fetchval("select last_occurred_at from stock_balances")
    assert last == datetime.fromisoformat(JANUARY.format(11))


async def test_a_reversal_has_its_own_date_but_not_before_the_document(
    admin: httpx.AsyncClient, books: asyncpg.Connection
) -> None:
    wrong = await post(admin, "in", **BOLT, quantity="9", unit_cost="100", occurred_at=JANUARY.format(10))
    path = f"transactions/{wrong['transaction_id']}/reverse"
    early = {"reason": "typing error", "occurred_at": JANUARY.format(9)}
    assert await pointers(admin, path, early) == ["/occurred_at"]
    document = await post(admin, path, reason="typing error", occurred_at=JANUARY.format(10))
    assert document["entries"][0]["occurred_at"] == JANUARY.format(10)
    await post(admin, "in", **BOLT, quantity="9", unit_cost="10", occurred_at=JANUARY.format(10))


async def close(database: Database, day: date | None, who: Principal = OWNER, reason: str | None = None) -> None:
    async with database.write() as db:
        await close_through(db, who, day, reason)


async def test_a_closed_period_takes_nothing_and_says_what_is_open(
    admin: httpx.AsyncClient, books: asyncpg.Connection, database: Database
) -> None:
    receipt = await post(admin, "in", **BOLT, quantity="9", occurred_at=JANUARY.format(5))
    await books.execute("update company set timezone = 'Europe/Berlin'")
    await close(database, date(2026, 1, 31), system("test"))
    first_open = "2026-01-31T23:00:00Z"
    closed = {"occurred_at": "2026-01-31T22:59:59.999999Z"}
    bodies = {
        "in": BODY,
        "out": BODY,
        "adjustment": BODY | {"reason": "counted"},
        "revaluation": {"sku": "BOLT", "unit_value": "2", "reason": "mended"},
        "transfer": {"sku": "BOLT", "from_location": "MAIN", "to_location": "SHOP", "quantity": "1"},
        f"transactions/{receipt['transaction_id']}/reverse": {"reason": "wrong"},
    }
    for what, body in bodies.items():
        answer = await admin.post(f"{PATH}/{what}", json=body | closed)
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (409, "/problems/period-closed"), what
        assert problem["first_open"] == first_open
        assert [fault["pointer"] for fault in problem["errors"]] == ["/occurred_at"]
    lines = [BODY | {"transaction_type": "IN"}, BODY | {"transaction_type": "IN"} | closed]
    assert await pointers(admin, "movements", {"movements": lines}, 409) == ["/movements/1/occurred_at"]
    for what, body in bodies.items():
        await post(admin, what, **(body | {"occurred_at": first_open}))


async def test_a_period_is_closed_forward_and_opened_only_by_the_owner_with_a_reason(database: Database) -> None:
    admin = Principal(2, Role.ADMIN)
    await close(database, date(2026, 1, 31), system("test"))
    today = datetime.now(UTC).date()
    with pytest.raises(errors.Invalid):
        await close(database, today)
    with pytest.raises(errors.Forbidden):
        await close(database, date(2026, 1, 30), admin, "a mistake")
    with pytest.raises(errors.Invalid):
        await close(database, None, reason=" ")
    async with database.write() as db:
        with pytest.raises(errors.Forbidden):
            await close_through(db, admin, None, "a mistake")


async def test_a_trigger_refuses_what_is_dated_to_a_closed_period_whoever_writes_it(
    books: asyncpg.Connection, database: Database
) -> None:
    await close(database, date(2026, 1, 31), system("test"))
    entry = (
        "insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value,"
        " on_hand_after, item_on_hand_after, value_after, occurred_at)"
        " values (gen_random_uuid(), 1, 1, 1, 'IN', 1, 0, 1, 1, 0, $1)"
    )
    with pytest.raises(asyncpg.CheckViolationError, match="the period is closed"):
        await books.execute(entry, datetime(2026, 1, 31, 23, 59, tzinfo=UTC))


async def test_nothing_slips_into_a_period_while_it_is_closed(
    books: asyncpg.Connection, database: Database, waiting: Waiting
) -> None:
    """Closing waits for the posting in flight; what comes meanwhile waits for the closing, and is refused."""

    def january() -> Receipt:
        return Receipt(sku="BOLT", location="MAIN", quantity=Quantity(1), occurred_at=datetime(2026, 1, 5, tzinfo=UTC))

    async with database.write() as db:
        await service.post_one(db, system("test"), january())
        closing = asyncio.create_task(close(database, date(2026, 1, 31), system("test")))
        await eventually(waiting)

        async def late() -> None:
            async with database.write() as other:
                nut = january()
                nut.location = "SHOP"
                await service.post_one(other, system("test"), nut)

        posting = asyncio.create_task(late())
        assert not closing.done()
    await closing
    with pytest.raises(PeriodClosed) as refused:
        await posting
    assert str(refused.value.members["first_open"]).startswith("2026-02-01")
    assert await books.fetchval("select count(*) from stock_ledger") == 1


async def test_what_happens_now_asks_for_no_closed_period(
    staff: httpx.AsyncClient, books: asyncpg.Connection, database: Database
) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    await close(database, yesterday, system("test"))
    with sent_statements() as sent:
        await post(staff, "in", **BODY)
    assert not any("closed_through" in str(statement) for statement in sent)
