"""What a reservation costs does not grow with those that have ended."""

import asyncpg
import httpx
import pytest

from erp_service.db.engine import Database
from erp_service.inventory.reservations.expiry import sweep_all
from tests.inventory.books import BOLT, post
from tests.inventory.reservations.reserving import RESERVATIONS, expire, extend, receive, release, reserve
from tests.support.statements import Statement, sent_statements

MANY = """
insert into stock_reservations
  (id, item_id, location_id, quantity, original_quantity, status, reference, expires_at, ended_at)
select uuidv7(n * interval '-1 second'), item_id, location_id, 0.0001, 1,
  case when n % 5 = 0 then 'ACTIVE' else 'EXPIRED' end, 'R' || n, now() + n * interval '1 minute',
  case when n % 5 > 0 then now() end
from generate_series(1, 20000) n, stock_balances where reserved > 0;
update stock_balances b set reserved = (
  select sum(quantity) from stock_reservations r where r.item_id = b.item_id and status = 'ACTIVE'
) where reserved > 0;
analyze stock_reservations, stock_balances, items, locations;
"""


@pytest.fixture
async def many(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> asyncpg.Connection:
    """16,000 that have ended, and 4,001 that hold stock of one balance."""
    await receive(staff, "9")
    await reserve(staff)
    await stock.execute(MANY)
    await stock.execute("set plan_cache_mode = force_generic_plan")
    return stock


async def scans(owner: asyncpg.Connection, sent: list[Statement]) -> set[str]:
    """By what the statements find reservations, in plans that do not know the parameters."""
    lines: list[str] = []
    for statement in sent:
        if "stock_reservations" in statement.text:
            plan = await owner.fetch(f"explain {statement.text}", *statement.parameters)
            lines += [row[0].strip(" ->") for row in plan]
    found = {line.partition("  (")[0] for line in lines if "stock_reservations" in line and "Scan" in line}
    return {line.partition(" using ")[2].partition(" on ")[0] or line for line in found}


@pytest.mark.parametrize(
    ("params", "index"),
    [
        ({}, "stock_reservations_active_id_idx"),
        ({"reference": "R7", "status": "ANY"}, "stock_reservations_reference_id_idx"),
        ({"sku": "NUT", "status": "USED"}, "stock_reservations_item_id_id_idx"),
    ],
)
async def test_a_page_is_read_from_an_index(
    staff: httpx.AsyncClient, many: asyncpg.Connection, params: dict[str, str], index: str
) -> None:
    with sent_statements() as sent:
        assert (await staff.get(RESERVATIONS, params=params)).status_code == 200
    assert await scans(many, sent) == {index}


async def test_whoever_needs_stock_reads_what_has_expired_and_not_what_holds(
    staff: httpx.AsyncClient, many: asyncpg.Connection
) -> None:
    with sent_statements() as sent:
        await post(staff, "out", **BOLT, quantity="1")
    # both begin with those that have expired, of the balance or of all
    assert await scans(many, sent) <= {"stock_reservations_active_idx", "stock_reservations_due_idx"}


async def test_housekeeping_reads_what_is_due_only(
    staff: httpx.AsyncClient, many: asyncpg.Connection, database: Database
) -> None:
    with sent_statements() as sent:
        await sweep_all(database)
    assert await scans(many, sent) == {"stock_reservations_due_idx"}


async def test_the_number_of_statements_does_not_depend_on_the_number_of_reservations(
    staff: httpx.AsyncClient, stock: asyncpg.Connection
) -> None:
    await receive(staff, "999")
    await reserve(staff)
    counts = []
    for size in (2, 200):
        line = BOLT | {"quantity": "1", "expires_in_seconds": 60}
        with sent_statements(in_transactions=True) as reserving:
            answer = await staff.post(f"{RESERVATIONS}/bulk", json={"reservations": [line] * size})
        made = [one["id"] for one in answer.json()["reservations"]]
        lines = [{"transaction_type": "OUT", **BOLT, "quantity": "1", "reservation_id": id_} for id_ in made]
        with sent_statements(in_transactions=True) as using:
            await post(staff, "movements", movements=lines[: size // 2])
        for id_ in made[size // 2 :]:
            await expire(stock, {"id": id_})
        with sent_statements(in_transactions=True) as sweeping:
            await post(staff, "out", **BOLT, quantity="1")
        counts.append([len(reserving), len(using), len(sweeping)])
    # rows, what has expired (and its audit entries), what it is about (twice), the audit entries of reservations
    assert counts == [[4, 5, 4]] * 2


async def test_release_and_extension_take_a_few_statements(staff: httpx.AsyncClient, stock: asyncpg.Connection) -> None:
    await receive(staff, "9")
    made = await reserve(staff)
    counts = []
    for act in (extend, release, release):
        with sent_statements(in_transactions=True) as sent:
            await act(staff, made)
        counts.append(len(sent))
    assert counts == [7, 7, 3]
