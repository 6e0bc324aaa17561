"""The names of an item beside its sku: barcode and external id; what a client keeps with it; and looking items up."""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
import httpx
import pytest

from erp_service.inventory.queries.item_lookup import MOST_NAMES
from tests.inventory.catalogue import ITEMS, LOCATIONS, bolt, listed, make, make_place
from tests.inventory.unseen import UNSEEN, only_fault
from tests.support.statements import Plans

LOOKUP = f"{ITEMS}/lookup"
EAN = "0012345678905"


async def test_a_barcode_and_an_external_id_are_kept_as_they_are_and_found(admin: httpx.AsyncClient) -> None:
    """Leading zeros are a part of them."""
    item = await make(admin, barcode=EAN, external_id="shop/1")
    await make(admin, sku="NUT", barcode="12345678905")
    assert (item["barcode"], item["external_id"]) == (EAN, "shop/1")
    assert await listed(admin, barcode=EAN) == ["BOLT-M8"]
    assert await listed(admin, external_id="shop/1") == ["BOLT-M8"]
    assert await listed(admin, barcode="shop/1") == []
    place = await make_place(admin, external_id="shop/1")
    assert place["external_id"] == "shop/1"
    assert (await admin.get(LOCATIONS, params={"external_id": "shop/1"})).json()["items"] == [place]
    assert (await admin.get(LOCATIONS, params={"external_id": "shop"})).json()["items"] == []


TAKEN = {"barcode": "/problems/barcode-taken", "external_id": "/problems/external-id-taken"}


@pytest.mark.parametrize("field", TAKEN)
async def test_a_name_is_taken_once_by_post_and_put_and_free_when_its_item_is_deleted(
    admin: httpx.AsyncClient, field: str
) -> None:
    first = await make(admin, **{field: "1"})
    nut = await make(admin, sku="NUT")
    for refused in (
        await admin.post(ITEMS, json=bolt(sku="X", **{field: "1"})),
        await admin.put(f"{ITEMS}/{nut['id']}", json=bolt(sku="NUT", **{field: "1"})),
    ):
        assert (refused.status_code, refused.json()["type"]) == (409, TAKEN[field])
    await admin.delete(f"{ITEMS}/{first['id']}")
    changed = await admin.put(f"{ITEMS}/{nut['id']}", json=bolt(sku="NUT", **{field: "1"}))
    assert changed.json()[field] == "1"
    assert await listed(admin, include_deleted=True, **{field: "1"}) == ["BOLT-M8", "NUT"]


async def test_an_external_id_is_of_one_location(admin: httpx.AsyncClient) -> None:
    await make(admin, external_id="1")
    await make_place(admin, external_id="1")
    body = {"code": "B", "name": "B", "location_type": "BIN", "external_id": "1"}
    refused = await admin.post(LOCATIONS, json=body)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/external-id-taken")


async def test_of_creates_at_once_with_one_barcode_one_wins(admin: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(admin.post(ITEMS, json=bolt(sku=f"S{n}", barcode=EAN)) for n in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + 5 * [409]


async def test_what_nobody_sees_is_refused_in_a_barcode_and_an_external_id(admin: httpx.AsyncClient) -> None:
    for text, fault in UNSEEN.items():
        place = {"code": "L", "name": "L", "location_type": "BIN", "external_id": text}
        for path, body, field in (
            (ITEMS, bolt(barcode=text), "barcode"),
            (ITEMS, bolt(external_id=text), "external_id"),
            (LOCATIONS, place, "external_id"),
        ):
            assert only_fault(await admin.post(path, json=body)) == {"pointer": f"/{field}", "detail": fault}, text
    for name in ("", "x" * 101, 4006381333931):
        answer = await admin.post(ITEMS, json=bolt(barcode=name, external_id=name))
        assert {error["pointer"] for error in answer.json()["errors"]} == {"/barcode", "/external_id"}


async def test_composed_and_decomposed_names_are_one(admin: httpx.AsyncClient) -> None:
    await make(admin, external_id="CAFE\u0301", metadata={"cafe\u0301": "cre\u0300me"})
    again = await admin.post(ITEMS, json=bolt(sku="X", external_id="CAF\u00c9"))
    assert again.json()["type"] == "/problems/external-id-taken"
    for form in ("CAF\u00c9", "CAFE\u0301"):
        assert await listed(admin, external_id=form) == ["BOLT-M8"]
        found = (await admin.post(LOOKUP, json={"external_ids": [form]})).json()
        assert [item["metadata"] for item in found["items"]] == [{"caf\u00e9": "cr\u00e8me"}]


# Metadata


async def test_metadata_is_a_flat_object_of_texts_that_put_replaces(admin: httpx.AsyncClient) -> None:
    item = await make(admin, metadata={"colour": "blue", "size": ""})
    place = await make_place(admin, metadata={"floor": "2"})
    assert (item["metadata"], place["metadata"]) == ({"colour": "blue", "size": ""}, {"floor": "2"})
    address = f"{ITEMS}/{item['id']}"
    same = await admin.put(address, json=bolt(metadata={"size": "", "colour": "blue"}))
    assert same.headers["ETag"] == '"1"'
    assert (await admin.put(address, json=bolt())).json()["metadata"] == {}
    at = f"{LOCATIONS}/{place['id']}"
    body = {"code": "MAIN", "name": "MAIN", "location_type": "WAREHOUSE"}
    assert (await admin.put(at, json={**body, "metadata": {"floor": "2"}})).headers["ETag"] == '"1"'
    assert (await admin.put(at, json=body)).json()["metadata"] == {}


BAD_METADATA: list[tuple[Any, str]] = [
    ({"a": 1}, "/metadata/a"),
    ({"a": None}, "/metadata/a"),
    ({"a": {"b": "c"}}, "/metadata/a"),
    ({"": "a"}, "/metadata/"),
    ({"x" * 101: "a"}, f"/metadata/{'x' * 101}"),
    ({"a/b": "x" * 501}, "/metadata/a~1b"),
    ({"a": "\0"}, "/metadata/a"),
    ({str(n): "" for n in range(17)}, "/metadata"),
    ([], "/metadata"),
    (None, "/metadata"),
]


async def test_metadata_that_is_not_flat_or_too_large_is_refused(admin: httpx.AsyncClient) -> None:
    place = {"code": "L", "name": "L", "location_type": "BIN"}
    for metadata, pointer in BAD_METADATA:
        for path, body in ((ITEMS, bolt()), (LOCATIONS, place)):
            answer = await admin.post(path, json={**body, "metadata": metadata})
            assert only_fault(answer)["pointer"] == pointer, metadata


# Looking up


async def found_by(client: httpx.AsyncClient, **names: Any) -> tuple[list[str], Mapping[str, list[Any]]]:
    """The skus that are found, and the names that are missing."""
    answer = await client.post(LOOKUP, json=names)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return [item["sku"] for item in found["items"]], {kind: some for kind, some in found["missing"].items() if some}


async def test_items_are_looked_up_by_every_name_and_what_is_missing_is_said(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    a = await make(admin, sku="A", barcode="1", external_id="x")
    b = await make(admin, sku="B", barcode="2")
    gone = await make(admin, sku="GONE", barcode="3", external_id="y")
    await admin.delete(f"{ITEMS}/{gone['id']}")
    assert await found_by(viewer) == ([], {})
    assert await found_by(viewer, ids=[b["id"]], skus=["A"]) == (["A", "B"], {})
    assert await found_by(viewer, barcodes=["2", "1"], external_ids=["x"]) == (["A", "B"], {})
    assert await found_by(
        viewer,
        ids=[a["id"], 999, gone["id"]],
        skus=["1", "GONE", "A"],
        external_ids=["y", "A"],
        barcodes=["3", "3", "x"],
    ) == (["A"], {"ids": [999, gone["id"]], "skus": ["1", "GONE"], "external_ids": ["y", "A"], "barcodes": ["3", "x"]})
    answer = await viewer.post(LOOKUP, json={"skus": ["A"]})
    assert answer.json()["items"] == [a]


async def test_names_with_any_letters_are_looked_up_as_they_are(admin: httpx.AsyncClient) -> None:
    """Arrays are sent as one text, in which these letters mean something."""
    skus = ['A"B', "A\\B", "{A,B}", "NULL", "A'B", "A,B"]
    for sku in skus:
        await make(admin, sku=sku)
    assert await found_by(admin, skus=[*skus, '"', "null"]) == (skus, {"skus": ['"', "null"]})


async def test_more_than_a_thousand_names_in_all_are_refused(admin: httpx.AsyncClient) -> None:
    many = [f"{n:04}{'x' * 96}" for n in range(MOST_NAMES)]
    skus, missing = await found_by(admin, skus=many)
    assert (skus, missing) == ([], {"skus": many})
    answer = await admin.post(LOOKUP, json={"skus": many, "ids": [1]})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"detail": "has 1001 names, and at most 1000 are taken", "pointer": ""}]
    for names, pointer in (({"skus": [""]}, "/skus/0"), ({"ids": ["1"]}, "/ids/0"), ({"codes": []}, "/codes")):
        assert only_fault(await admin.post(LOOKUP, json=names))["pointer"] == pointer


async def test_a_look_up_is_one_statement_that_reads_indexes(
    admin: httpx.AsyncClient, owner: asyncpg.Connection, plans: Plans
) -> None:
    await owner.execute(
        "insert into items (sku, name, unit, barcode, external_id)"
        " select 'S' || n, 'N', 'pcs', 'B' || n, 'X' || n from generate_series(1, 20000) n"
    )
    await owner.execute("analyze items")
    await plans()
    names = {"ids": [1], "skus": ["S2"], "barcodes": ["B3"], "external_ids": ["X4"]}
    assert (await found_by(admin, **names))[0] == ["S1", "S2", "S3", "S4"]
    plan = await plans()
    assert plan.count("Bitmap Heap Scan on items") == 1, plan
    assert "Seq Scan on items" not in plan, plan
    for field, name in (("barcode", "B3"), ("external_id", "X3")):
        assert await listed(admin, **{field: name}) == ["S3"]
        assert f"items_{field}_key" in await plans()
