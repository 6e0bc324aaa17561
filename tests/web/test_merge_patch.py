"""PATCH and PUT of everything that can be replaced: one set of rules, and a body as GET shows it is taken back."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erp_service import errors, validation
from erp_service.inventory.edits import ItemPatch, ItemReplacement
from erp_service.inventory.schemas import ItemOut, ItemPack
from erp_service.web.merge_patch import merged
from tests.exports.schedules.examples import DAILY, SCHEDULES
from tests.inventory.catalogue import ITEMS, LOCATIONS, bolt, make, make_place
from tests.support.clients import UserClient

USERS = "/api/v1/users"
PERSON = {"email": "sam@example.com", "full_name": "Sam", "role": "STAFF", "password": "paper boats on the mill pond"}
OBJECT = "must be an object"
WEBHOOKS = "/api/v1/webhooks"
MERGE_PATCH = "application/merge-patch+json"

# RFC 7396, appendix A: original, patch, result
EXAMPLES: list[tuple[str, str, str]] = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_rfc(example: tuple[str, str, str]) -> None:
    target, patch, result = map(json.loads, example)
    before = json.dumps([target, patch])
    assert merged(target, patch) == result
    assert json.dumps([target, patch]) == before


_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
_JSON = st.recursive(
    _LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from("abcd"), part, max_size=4)
)


@given(target=_JSON, patch=_JSON)
def test_a_patch_applied_twice_is_a_patch_applied_once(target: Any, patch: Any) -> None:
    once = merged(target, patch)
    assert merged(once, patch) == once
    if isinstance(target, dict):
        assert merged(target, {}) == target


# Items: the patch of a body is the body of the patched JSON

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
PRESENT = ItemOut(
    id=7,
    sku="MUG",
    name="Mug",
    unit="pcs",
    decimals=2,
    units=[validation.decode(ItemPack, b'{"unit": "case", "numerator": 12, "denominator": 1}')],
    barcode="4006381333931",
    external_id=None,
    metadata={"a": "1", "b": "2"},
    status="INACTIVE",
    description="blue",
    reorder_point=Decimal("0.1"),
    version=3,
    created_at=NOW,
    updated_at=NOW,
    deleted_at=None,
)
_TEXT = st.text("abc", min_size=1, max_size=3)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "sku": _TEXT,
    "name": _TEXT,
    "unit": _TEXT | st.none(),
    "decimals": st.integers(0, 6) | st.none(),
    "units": st.just([]) | st.none() | st.just([{"unit": "box", "numerator": 3, "denominator": 2}]),
    "barcode": _TEXT | st.none(),
    "external_id": _TEXT | st.none(),
    "metadata": st.none() | st.dictionaries(st.sampled_from("abc"), _TEXT | st.none()),
    "status": st.sampled_from(["ACTIVE", "DISCONTINUED", None]),
    "description": _TEXT | st.none(),
    "reorder_point": st.none() | st.sampled_from(["0", "123456789012.123456", "7.50", 3]),
}
PATCHES = st.fixed_dictionaries({}, optional=_VALUES)


def over(patch: Any, present: ItemOut | None = PRESENT) -> dict[str, Any]:
    """What an item becomes, as JSON."""
    body = validation.decode(ItemPatch, patch if isinstance(patch, bytes) else json.dumps(patch).encode()).over(present)
    shown: dict[str, Any] = msgspec.to_builtins(body, enc_hook=str)
    return shown


def refused(patch: Any, present: ItemOut | None = PRESENT) -> dict[str | None, str]:
    with pytest.raises(errors.Invalid) as caught:
        over(patch, present)
    return {fault.pointer: fault.detail for fault in caught.value.faults}


@given(patch=PATCHES)
def test_a_patched_item_is_the_body_of_the_patched_json(patch: dict[str, Any]) -> None:
    """Decoded by PUT, of whose body what is removed is left out."""
    shown = msgspec.to_builtins(PRESENT)
    writable = {name: shown[name] for name in _VALUES}
    encoded = json.dumps(merged(writable, patch)).encode()
    put = validation.decode(ItemReplacement, encoded).over(PRESENT)
    assert over(patch) == msgspec.to_builtins(put, enc_hook=str)


@given(patch=PATCHES, names=st.sets(st.sampled_from(sorted(msgspec.to_builtins(PRESENT)))))
def test_what_get_shows_changes_nothing_beside_a_patch(patch: dict[str, Any], names: set[str]) -> None:
    shown = msgspec.to_builtins(PRESENT)
    assert over({name: shown[name] for name in names}) == over({})
    read_only = {name: shown[name] for name in names if name not in _VALUES}
    assert over({**patch, **read_only}) == over(patch)


def test_numbers_never_become_floats_on_the_way() -> None:
    assert over(b'{"reorder_point": 123456789012.123456}')["reorder_point"] == "123456789012.123456"
    assert over(b'{"reorder_point": 0.1}')["reorder_point"] == "0.1"
    assert over({})["reorder_point"] == "0.1"
    assert list(refused(b'{"reorder_point": 0.1000000000000000055511151231257827}')) == ["/reorder_point"]
    for number in (b"1e400", b"1e2", b"18446744073709551616", b"-1", b"NaN"):
        if number == b"NaN":
            with pytest.raises(errors.Malformed):
                over(b'{"reorder_point": %s}' % number)
        else:
            assert list(refused(b'{"decimals": %s, "reorder_point": %s}' % (number, number))) == [
                "/decimals",
                "/reorder_point",
            ]


def test_every_fault_is_named() -> None:
    patch = {
        "sku": None,
        "name": 5,
        "decimals": 7,
        "metadata": {"a": 1},
        "units": [{"unit": "box"}],
        "id": 8,
        "version": None,
        "no": 1,
        "neither": None,
    }
    assert sorted(str(pointer) for pointer in refused(patch)) == [
        "/decimals",
        "/id",
        "/metadata/a",
        "/name",
        "/neither",
        "/no",
        "/sku",
        "/units/0/denominator",
        "/units/0/numerator",
        "/version",
    ]
    assert refused({"id": 8})["/id"] == "is read-only"
    assert refused({"id": "7"}) == {"/id": "is read-only"}
    # of a new item nothing is there yet
    assert list(refused({"sku": "A", "name": "A", "id": 7}, present=None)) == ["/id"]
    assert list(refused({"name": "A"}, present=None)) == ["/sku"]


def test_an_instant_in_another_offset_is_the_same() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=1)))
    assert over({"created_at": there.isoformat()}) == over({})
    assert list(refused({"created_at": "2026-01-31T12:00:00.000001Z"})) == ["/created_at"]
    assert list(refused({"created_at": "2026-01-31T12:00:00"})) == ["/created_at"]


@pytest.mark.parametrize("depth", [500, 5_000, 20_000])
def test_a_body_that_is_nested_deep_is_refused(depth: int) -> None:
    """Merging goes as deep as the body does."""
    nested = b'{"metadata":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    for kind in (ItemPatch, ItemReplacement):
        with pytest.raises((errors.Malformed, errors.Invalid)):
            validation.decode(kind, nested).over(PRESENT)


@given(patch=PATCHES)
def test_a_good_patch_is_good_whatever_the_resource_is(patch: dict[str, Any]) -> None:
    validation.decode(ItemPatch, json.dumps(patch).encode()).check()


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"units": [{"unit": "box", "numerator": 1}]}, "/units/0/denominator"),
        ({"sku": None}, "/sku"),
        ({"metadata": {"a": 1}}, "/metadata/a"),
        ({"no": None}, "/no"),
        ({"decimals": "1"}, "/decimals"),
    ],
)
def test_a_bad_patch_is_bad_whatever_the_resource_is(patch: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        validation.decode(ItemPatch, json.dumps(patch).encode()).check()
    assert [fault.pointer for fault in caught.value.faults] == [pointer]


# All of them over HTTP


class Resource(msgspec.Struct):
    """One of each kind, and a patch of it."""

    path: str
    patch: dict[str, Any]
    required: str
    methods: tuple[str, ...] = ("PUT", "PATCH")


@pytest.fixture
async def resources(admin: UserClient) -> list[Resource]:
    item = await make(admin, reorder_point="2.5", units=[{"unit": "case", "numerator": 12, "denominator": 1}])
    parent = await make_place(admin)
    place = await make_place(admin, "BIN", parent="MAIN", metadata={"floor": "2"})
    user = (await admin.post(USERS, json=PERSON)).json()
    schedule = (await admin.post(SCHEDULES, json=DAILY)).json()
    webhook = (await admin.post(WEBHOOKS, json={"url": "https://shop.example.com/", "types": ["stock.posted"]})).json()
    assert place["parent_id"] == parent["id"]
    return [
        Resource(f"{ITEMS}/{item['id']}", {"description": "zinc", "metadata": {"a": "b"}}, "sku"),
        Resource(f"{LOCATIONS}/{place['id']}", {"address": "Dock 1", "metadata": {"floor": None}}, "code"),
        Resource(f"{USERS}/{user['id']}", {"full_name": "Sam Lane"}, "email"),
        Resource(f"{SCHEDULES}/{schedule['id']}", {"spec": {"format": "xlsx"}, "is_active": False}, "spec"),
        Resource(f"{WEBHOOKS}/{webhook['id']}", {"description": "The shop", "is_active": False}, "url", ("PATCH",)),
    ]


async def audit_count(owner: asyncpg.Connection) -> int:
    count: int = await owner.fetchval("select count(*) from audit_log")
    return count


async def test_what_get_shows_is_taken_back_by_put_and_patch_and_changes_nothing(
    admin: UserClient, owner: asyncpg.Connection, resources: list[Resource]
) -> None:
    entries = await audit_count(owner)
    for one in resources:
        got = await admin.get(one.path)
        for method in one.methods:
            answer = await admin.request(method, one.path, content=got.content, headers=_typed())
            assert (answer.status_code, answer.json()) == (200, got.json()), answer.text
            assert answer.headers["ETag"] == got.headers["ETag"]
        empty = await admin.patch(one.path, json={})
        assert (empty.json(), empty.headers["ETag"]) == (got.json(), got.headers["ETag"])
    assert await audit_count(owner) == entries


async def test_a_patch_changes_what_it_names_and_is_audited_as_a_put_is(
    admin: UserClient, owner: asyncpg.Connection, resources: list[Resource]
) -> None:
    for one in resources:
        before = await admin.get(one.path)
        headers = {"Content-Type": MERGE_PATCH, "If-Match": before.headers["ETag"]}
        answer = await admin.patch(one.path, content=json.dumps(one.patch), headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["ETag"] != before.headers["ETag"]
        got = await admin.get(one.path)
        assert (got.json(), got.headers["ETag"]) == (answer.json(), answer.headers["ETag"])
        expected = merged(before.json(), one.patch)
        moving = {"version", "updated_at", "next_run_at"}
        assert {n: v for n, v in got.json().items() if n not in moving} == {
            n: v for n, v in expected.items() if n not in moving
        }
        entry = await owner.fetchrow("select action, before, after from audit_log order by id desc limit 1")
        assert entry["action"].endswith(".updated")
        assert entry["before"] != entry["after"]
        stale = await admin.patch(one.path, json=one.patch, headers={"If-Match": before.headers["ETag"]})
        assert stale.status_code == 412
        # a bad patch is bad whatever the resource is by now
        bad = await admin.patch(one.path, json={one.required: None}, headers={"If-Match": before.headers["ETag"]})
        assert bad.status_code == 422


async def test_what_the_service_changes_by_itself_is_taken_back_from_a_moment_ago(
    admin: UserClient, owner: asyncpg.Connection, resources: list[Resource]
) -> None:
    """A log-in, and a delivery, change no ETag: a body as GET showed it just before fits still."""
    *_, user, _, webhook = resources
    seen = [await admin.get(one.path) for one in (user, webhook)]
    await owner.execute("update users set last_login_at = now()")
    await owner.execute("update webhooks set cursor = cursor + 7, last_success_at = now()")
    for before, method in zip((seen[0], seen[0], seen[1]), ("PUT", "PATCH", "PATCH"), strict=True):
        path = before.request.url.path
        headers = {**_typed(), "If-Match": before.headers["ETag"]}
        answer = await admin.request(method, path, content=before.content, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json() == (await admin.get(path)).json() != before.json()


async def test_what_cannot_be_patched_is_named_and_changes_nothing(
    admin: UserClient, owner: asyncpg.Connection, resources: list[Resource]
) -> None:
    entries = await audit_count(owner)
    for one in resources:
        shown = (await admin.get(one.path)).json()
        bad = {one.required: None, "created_at": "2020-01-01T00:00:00Z", "unknown": None}
        for method in one.methods:
            # PUT names what it can without the resource first
            body = {**shown, **bad} if method == "PUT" else bad
            answer = await admin.request(method, one.path, json=body)
            assert answer.status_code == 422, answer.text
            named = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
            assert {f"/{one.required}", "/unknown"} <= named.keys()
            read_only = await admin.request(method, one.path, json={**shown, "created_at": bad["created_at"]})
            assert read_only.json()["errors"] == [{"detail": "is read-only", "pointer": "/created_at"}]
        for content in ("[]", "null", "5", '"a"'):
            answer = await admin.patch(one.path, content=content, headers=_typed())
            assert (answer.status_code, answer.json()["errors"]) == (422, [{"detail": OBJECT, "pointer": ""}])
        assert (await admin.get(one.path)).json() == shown
    assert await audit_count(owner) == entries


@pytest.mark.parametrize(
    "media_type", ["application/json-patch+json", "text/plain", "application/x-www-form-urlencoded", "application/xml"]
)
async def test_another_kind_of_patch_is_415(admin: UserClient, media_type: str) -> None:
    item = await make(admin)
    answer = await admin.patch(f"{ITEMS}/{item['id']}", content=b"{}", headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert answer.headers["Accept-Patch"] == "application/merge-patch+json, application/json"


async def test_a_patch_of_what_is_not_there_or_not_allowed(
    admin: UserClient, staff: httpx.AsyncClient, resources: list[Resource]
) -> None:
    for one in resources:
        assert (await staff.patch(one.path, json=one.patch)).status_code in (403, 404)
    for path in (f"{ITEMS}/999", f"{LOCATIONS}/999", f"{USERS}/999"):
        assert (await admin.patch(path, json={})).status_code == 404


async def test_a_post_takes_no_read_only_field(admin: UserClient) -> None:
    item = await make(admin)
    answer = await admin.post(ITEMS, json={**bolt(sku="X"), "id": item["id"], "version": 1})
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/id", "/version"}


async def test_a_location_is_moved_by_either_name_of_its_parent(admin: UserClient) -> None:
    main, shop = await make_place(admin), await make_place(admin, "SHOP")
    place = await make_place(admin, "BIN", parent="MAIN")
    path = f"{LOCATIONS}/{place['id']}"
    for patch, parent in (
        ({"parent": "SHOP"}, shop),
        ({"parent_id": main["id"]}, main),
        ({"parent": "SHOP", "parent_id": shop["id"]}, shop),
        ({"parent": None}, None),
        ({"parent_id": main["id"], "parent": None}, main),
        ({"parent_id": None}, None),
    ):
        moved = (await admin.patch(path, json=patch)).json()
        expected = (None, None) if parent is None else (parent["id"], parent["code"])
        assert (moved["parent_id"], moved["parent"]) == expected, patch
    answer = await admin.patch(path, json={"parent": "SHOP", "parent_id": main["id"]})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/parent"]
    assert (await admin.patch(f"{LOCATIONS}/{main['id']}", json={"parent_id": main["id"]})).status_code == 422


async def test_a_patched_code_is_shown_by_the_locations_below(admin: UserClient) -> None:
    main = await make_place(admin)
    place = await make_place(admin, "BIN", parent="MAIN")
    assert (await admin.patch(f"{LOCATIONS}/{main['id']}", json={"code": "HQ"})).status_code == 200
    below = (await admin.get(f"{LOCATIONS}/{place['id']}")).json()
    assert (below["parent"], below["version"]) == ("HQ", 2)


async def test_the_rules_of_put_hold_for_patch(admin: UserClient) -> None:
    """A user's own role, a sku that is taken, a pack that has the name of the unit."""
    own = await admin.patch(f"{USERS}/{admin.user_id}", json={"role": "STAFF"})
    assert (own.status_code, own.json()["type"]) in (
        (403, "/problems/role-out-of-reach"),
        (409, "/problems/own-account"),
    )
    item, nut = await make(admin), await make(admin, sku="NUT")
    taken = await admin.patch(f"{ITEMS}/{nut['id']}", json={"sku": item["sku"]})
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/sku-taken")
    pack = await admin.patch(
        f"{ITEMS}/{nut['id']}", json={"units": [{"unit": "pcs", "numerator": 2, "denominator": 1}]}
    )
    assert [error["pointer"] for error in pack.json()["errors"]] == ["/units/0/unit"]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patch=PATCHES)
async def test_get_after_a_patch_is_the_merge_of_both(admin: UserClient, patch: dict[str, Any]) -> None:
    found = (await admin.get(ITEMS)).json()["items"]
    item = found[0] if found else await make(admin)
    path = f"{ITEMS}/{item['id']}"
    before = (await admin.get(path)).json()
    answer = await admin.patch(path, json=patch)
    assert answer.status_code == 200 or "units" in answer.text, answer.text
    if answer.status_code == 200:
        defaults = {"unit": "pcs", "decimals": 6, "units": [], "metadata": {}, "status": "ACTIVE"}
        expected = {**dict.fromkeys(before), **defaults, **merged(before, patch)}
        after = (await admin.get(path)).json()
        if isinstance(expected["reorder_point"], int | str):
            expected["reorder_point"] = {"7.50": "7.5", 3: "3"}.get(
                expected["reorder_point"], expected["reorder_point"]
            )
        moving = ("version", "updated_at")
        assert {n: v for n, v in after.items() if n not in moving} == {
            n: v for n, v in expected.items() if n not in moving
        }


def _typed() -> dict[str, str]:
    return {"Content-Type": "application/json"}
