"""How a quantity of an item may be given and divided: its packs, and its decimals."""

import asyncio
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service import errors, validation
from erp_service.access.principals import system
from erp_service.db.engine import Database
from erp_service.inventory.item_changes import pack_faults
from erp_service.inventory.posting import ledger, row_locks
from erp_service.inventory.posting.row_locks import Wanted
from erp_service.inventory.schemas import MOST_PACKS, ItemBody
from tests.inventory.catalogue import ITEMS, bolt, make, make_place, receipt
from tests.inventory.posting import Post
from tests.support.statements import Waiting
from tests.support.waiting import eventually

CASE = {"unit": "case", "numerator": 12, "denominator": 1}
GRAM = {"unit": "g", "numerator": 1, "denominator": 1000}


async def test_packs_and_decimals_are_kept_and_answered(admin: httpx.AsyncClient) -> None:
    plain = await make(admin, sku="PLAIN")
    assert (plain["unit"], plain["decimals"], plain["units"]) == ("pcs", 6, [])
    item = await make(admin, decimals=0, units=[CASE, GRAM])
    assert (item["decimals"], item["units"]) == (0, [CASE, GRAM])
    address = f"{ITEMS}/{item['id']}"
    assert (await admin.get(address)).json() == item
    assert (await admin.get(ITEMS)).json()["items"] == [plain, item]
    same = await admin.put(address, json=bolt(decimals=0, units=[CASE, GRAM]))
    assert (same.headers["ETag"], same.json()) == ('"1"', item)
    changed = await admin.put(address, json=bolt(decimals=0, units=[GRAM]))
    assert (changed.headers["ETag"], changed.json()["units"]) == ('"2"', [GRAM])


async def test_an_item_without_a_unit_is_counted_in_pieces(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(ITEMS, json={"sku": "A", "name": "A"})
    assert answer.json()["unit"] == "pcs"


async def test_packs_change_at_any_time_and_are_audited(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, post: Post
) -> None:
    item = await make(admin, units=[CASE])
    await make_place(admin)
    await post("IN", "BOLT-M8", "MAIN", "12", unit_cost="2")
    assert (await admin.put(f"{ITEMS}/{item['id']}", json=bolt(units=[{**CASE, "numerator": 10}]))).status_code == 200
    before, after = await owner.fetchrow(
        "select before -> 'units', after -> 'units' from audit_log where action = 'item.updated'"
    )
    assert (msgspec.json.decode(before)[0]["numerator"], msgspec.json.decode(after)[0]["numerator"]) == (12, 10)


BAD_PACKS: list[tuple[Any, str]] = [
    ({"unit": "case", "numerator": 12}, "/units/0/denominator"),
    ({**CASE, "numerator": 0}, "/units/0/numerator"),
    ({**CASE, "denominator": -1}, "/units/0/denominator"),
    ({**CASE, "numerator": 1_000_000_001}, "/units/0/numerator"),
    ({**CASE, "numerator": 1.5}, "/units/0/numerator"),
    ({**CASE, "numerator": "12"}, "/units/0/numerator"),
    ({**CASE, "numerator": True}, "/units/0/numerator"),
    ({**CASE, "unit": "ca\u200bse"}, "/units/0/unit"),
    ({**CASE, "unit": ""}, "/units/0/unit"),
    ({**CASE, "unit": "x" * 21}, "/units/0/unit"),
    ({**CASE, "unit": "pcs"}, "/units/0/unit"),
    ({**CASE, "barcode": "1"}, "/units/0/barcode"),
    ("case", "/units/0"),
]


async def test_a_pack_that_is_no_exact_ratio_with_a_name_is_refused(admin: httpx.AsyncClient) -> None:
    for pack, pointer in BAD_PACKS:
        answer = await admin.post(ITEMS, json=bolt(units=[pack]))
        assert answer.status_code == 422, pack
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer], pack
    many = [{**CASE, "unit": f"case {n}"} for n in range(MOST_PACKS + 1)]
    answer = await admin.post(ITEMS, json=bolt(units=many))
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/units"]
    assert (await admin.post(ITEMS, json=bolt(units=many[1:]))).status_code == 201


async def test_every_pack_with_a_name_that_is_taken_is_named(admin: httpx.AsyncClient) -> None:
    packs = [{**CASE, "unit": unit} for unit in ("me\u0301tre", "m\u00e9tre", "Case", "case", "pcs", "case")]
    answer = await admin.post(ITEMS, json=bolt(units=packs))
    assert answer.json()["errors"] == [
        {"detail": "m\u00e9tre is the name of another pack", "pointer": "/units/1/unit"},
        {"detail": "pcs is the item's own unit", "pointer": "/units/4/unit"},
        {"detail": "case is the name of another pack", "pointer": "/units/5/unit"},
    ]


@given(
    unit=st.sampled_from(["pcs", "kg"]),
    packs=st.lists(
        st.tuples(st.sampled_from(["pcs", "kg", "case", "box"]), st.integers(-1, 3), st.integers(0, 10**9 + 1)),
        max_size=6,
    ),
)
def test_packs_are_taken_if_and_only_if_names_differ_and_ratios_are_positive(
    unit: str, packs: list[tuple[str, int, int]]
) -> None:
    fields = [{"unit": name, "numerator": n, "denominator": d} for name, n, d in packs]
    names = [unit, *(name for name, _, _ in packs)]
    fits = all(n > 0 and 0 < d <= 10**9 for _, n, d in packs)
    encoded = msgspec.json.encode({"sku": "A", "name": "A", "unit": unit, "units": fields})
    try:
        body = validation.decode(ItemBody, encoded)
    except errors.Invalid:
        assert not fits
        return
    assert fits
    assert len(list(pack_faults(body))) == len(names) - len(set(names))


# How far an item can be divided


async def test_decimals_cannot_become_less_than_what_is_in_the_ledger(admin: httpx.AsyncClient, post: Post) -> None:
    """Half a piece on hand, and whole pieces only, would never be sold."""
    item = await make(admin, decimals=6)
    await make_place(admin)
    address = f"{ITEMS}/{item['id']}"
    assert (await admin.put(address, json=bolt(decimals=0))).status_code == 200
    assert (await admin.put(address, json=bolt(decimals=4))).status_code == 200
    await post("IN", "BOLT-M8", "MAIN", "1.25", unit_cost="2")
    await post("OUT", "BOLT-M8", "MAIN", "1.25")
    for decimals in (1, 0):
        refused = await admin.put(address, json=bolt(decimals=decimals))
        problem = refused.json()
        assert (refused.status_code, problem["type"], problem["least"]) == (409, "/problems/decimals-stay", 2)
        assert problem["detail"] == "BOLT-M8 has quantities with 2 decimals."
    assert (await admin.put(address, json=bolt(decimals=2))).json()["decimals"] == 2
    assert (await admin.put(address, json=bolt(decimals=6))).json()["decimals"] == 6


async def test_decimals_cannot_become_less_than_what_is_reserved_or_counted(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, post: Post
) -> None:
    item = await make(admin)
    await make_place(admin)
    await post("IN", "BOLT-M8", "MAIN", "3", unit_cost="2")
    half = {"sku": "BOLT-M8", "location": "MAIN", "quantity": "0.125", "expires_in_seconds": 60}
    for _ in range(2):  # together they are a quarter, with two decimals
        assert (await admin.post("/api/v1/inventory/reservations", json=half)).status_code == 201
    refused = await admin.put(f"{ITEMS}/{item['id']}", json=bolt(decimals=2))
    assert refused.json()["least"] == 3
    lines = [{"sku": "BOLT-M8", "counted": "2.0625"}]
    count = await admin.post("/api/v1/inventory/counts", json={"location": "MAIN", "lines": lines})
    assert count.status_code == 201, count.text
    refused = await admin.put(f"{ITEMS}/{item['id']}", json=bolt(decimals=3))
    assert refused.json()["least"] == 4


@pytest.mark.parametrize("decimals", [-1, 7, 1.5, "2", None, True])
async def test_decimals_are_a_whole_number_from_0_to_6(admin: httpx.AsyncClient, decimals: object) -> None:
    answer = await admin.post(ITEMS, json=bolt(decimals=decimals))
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/decimals"]


async def test_fewer_decimals_wait_for_a_receipt_that_is_being_committed_and_are_refused(
    admin: httpx.AsyncClient, database: Database, waiting: Waiting
) -> None:
    item = await make(admin)
    await make_place(admin)
    async with database.write() as db:
        locked = await row_locks.lock_rows(db, [Wanted("BOLT-M8", "MAIN")])
        change = asyncio.create_task(admin.put(f"{ITEMS}/{item['id']}", json=bolt(decimals=0)))
        await eventually(waiting)
        line = msgspec.structs.replace(receipt(locked), quantity=Decimal("0.5"))
        await ledger.post(db, system("test"), [line], locked)
    assert (await change).json()["least"] == 1
