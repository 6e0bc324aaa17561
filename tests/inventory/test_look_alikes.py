"""What looks the same on paper is one sku, one code, one reference, however it is written."""

from typing import Any

import asyncpg
import httpx
import pytest

from tests.inventory.catalogue import ITEMS, LOCATIONS, bolt, listed, make, make_place
from tests.inventory.unseen import UNSEEN, only_fault

STOCK = "/api/v1/inventory/stock"
COMPOSED, DECOMPOSED = "CAF\u00c9", "CAFE\u0301"


async def test_composed_and_decomposed_skus_are_one_item(admin: httpx.AsyncClient) -> None:
    item = await make(admin, sku=DECOMPOSED, name="Cafe\u0301", unit="me\u0300tre")
    assert (item["sku"], item["name"], item["unit"]) == (COMPOSED, "Caf\u00e9", "m\u00e8tre")
    for sku in (COMPOSED, DECOMPOSED):
        again = await admin.post(ITEMS, json=bolt(sku=sku))
        assert (again.status_code, again.json()["type"]) == (409, "/problems/sku-taken")
    place = await make_place(admin, DECOMPOSED)
    assert place["code"] == COMPOSED
    again = await admin.post(LOCATIONS, json={"code": COMPOSED, "name": "L", "location_type": "BIN"})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/code-taken")


@pytest.mark.parametrize("form", [COMPOSED, DECOMPOSED])
async def test_every_filter_and_reference_finds_both_forms(admin: httpx.AsyncClient, form: str) -> None:
    await make(admin, sku=COMPOSED, name="Kaffee")
    await make_place(admin, COMPOSED)
    movement: dict[str, Any] = {"sku": form, "location": form, "quantity": "3", "unit_cost": "1", "reference_no": form}
    movement |= {"notes": form, "metadata": {form: form}}
    received = await admin.post(f"{STOCK}/in", json=movement)
    assert received.status_code == 201, received.text
    entry = received.json()
    assert (entry["reference_no"], entry["notes"], entry["metadata"]) == (COMPOSED, COMPOSED, {COMPOSED: COMPOSED})
    assert await listed(admin, sku=form) == [COMPOSED]
    assert await listed(admin, q=form.lower()) == [COMPOSED]
    places = await admin.get(LOCATIONS, params={"code": form})
    assert [place["code"] for place in places.json()["items"]] == [COMPOSED]
    for path, params in (
        ("/current", {"sku": form}),
        ("/ledger", {"sku": form}),
        ("/ledger", {"reference_no": form}),
    ):
        found = (await admin.get(f"{STOCK}{path}", params=params)).json()["items"]
        assert [row["sku"] for row in found] == [COMPOSED], (path, params)


async def test_old_entries_with_a_decomposed_reference_are_found(
    admin: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    """The ledger is append-only, so the update of the service did not normalise them."""
    await make(admin)
    await make_place(admin)
    movement = {"sku": "BOLT-M8", "location": "MAIN", "quantity": "1", "unit_cost": "1", "reference_no": COMPOSED}
    assert (await admin.post(f"{STOCK}/in", json=movement)).status_code == 201
    await owner.execute("set session_replication_role = replica")
    await owner.execute("update stock_ledger set reference_no = $1", DECOMPOSED)
    found = (await admin.get(f"{STOCK}/ledger", params={"reference_no": COMPOSED})).json()["items"]
    assert len(found) == 1


async def test_what_nobody_sees_is_refused_in_every_identifier(admin: httpx.AsyncClient) -> None:
    await make(admin, sku="AB 1")
    await make_place(admin)
    for text, fault in UNSEEN.items():
        place = {"code": text, "name": "L", "location_type": "BIN"}
        movement = {"sku": "AB 1", "location": "MAIN", "quantity": "1", "unit_cost": "1", "reference_no": text}
        for path, body, field in (
            (ITEMS, bolt(sku=text), "sku"),
            (ITEMS, bolt(unit=text), "unit"),
            (LOCATIONS, place, "code"),
            (f"{STOCK}/in", movement, "reference_no"),
        ):
            assert only_fault(await admin.post(path, json=body)) == {"pointer": f"/{field}", "detail": fault}, text
    assert await listed(admin) == ["AB 1"]


async def test_a_copied_sku_that_finds_nothing_says_what_nobody_sees(admin: httpx.AsyncClient) -> None:
    """It may be stored so, from before it was refused: then it is found."""
    await make(admin, sku="AB 1")
    await make_place(admin)
    movement = {"sku": "AB\u00a01", "location": "MAIN", "quantity": "1", "unit_cost": "1"}
    assert only_fault(await admin.post(f"{STOCK}/in", json=movement)) == {
        "pointer": "/sku",
        "detail": "there is no such item: the sku has a blank other than the plain one (U+00A0) at position 3",
    }


async def test_a_name_or_a_reason_has_something_to_see(admin: httpx.AsyncClient) -> None:
    await make(admin)
    await make_place(admin)
    for text in (" ", "\u200b", "\u3164", "\u2800", "\u00a0", "\u00ad"):
        correction = {"sku": "BOLT-M8", "location": "MAIN", "quantity": "1", "reason": text}
        place = {"code": "L", "name": text, "location_type": "BIN"}
        for path, body, field in (
            (ITEMS, bolt(sku="N", name=text), "name"),
            (LOCATIONS, place, "name"),
            (f"{STOCK}/adjustment", correction, "reason"),
        ):
            fault = only_fault(await admin.post(path, json=body))
            assert fault == {"pointer": f"/{field}", "detail": "has no visible character"}, text
