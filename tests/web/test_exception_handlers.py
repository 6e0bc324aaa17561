"""Every fault of a request is answered with a problem document that names it, and never with a 5xx."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.params import JSONBody

from erp_service import errors
from erp_service.access.roles import Role
from erp_service.access.scopes import Keys
from erp_service.decimals import Quantity
from erp_service.errors import INTEGER_LIMIT
from erp_service.web.responses import ApiResponse
from erp_service.web.routing import PUBLIC, get, post
from tests.support.apps import services_of
from tests.support.clients import client_of
from tests.support.users import make_user, token_of


class Line(msgspec.Struct, forbid_unknown_fields=True):
    quantity: Quantity
    count: Annotated[int, msgspec.Meta(le=INTEGER_LIMIT)] = 0
    text: str = ""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    lines: list[Line]
    note: str | None = None


@post("/test/bodies", role=PUBLIC, scope=Keys.NONE, lines=True)
async def bodies(data: JSONBody[Body]) -> ApiResponse[str]:
    return ApiResponse(str(data.lines[0].quantity))


@get("/test/bug", role=PUBLIC, scope=Keys.NONE)
async def bug() -> ApiResponse[str]:
    raise RuntimeError("secret detail in /etc/passwd: select * from users")


@pytest.fixture(scope="module")
async def anyone(shared_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    shared_app.register(bodies)
    shared_app.register(bug)
    async with client_of(shared_app) as client:
        yield client


@pytest.fixture(scope="module")
async def reader(shared_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A VIEWER."""
    user_id = await make_user(services_of(shared_app).database, Role.VIEWER)
    async with client_of(shared_app, token_of(services_of(shared_app).settings, user_id)) as client:
        yield client


async def send(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    answer = await client.post("/test/bodies", content=body, headers={"Content-Type": "application/json"})
    if answer.status_code >= 400:
        assert answer.headers["content-type"].startswith("application/problem+json")
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["request_id"] == answer.headers["x-request-id"]
        page = await client.get(problem["type"])
        assert problem["title"] in page.text
    return answer


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"lines": [}', 400),
        (b"\xff\xfe", 400),
        (b'{"lines": [{"quantity": NaN}]}', 400),
        (b'{"lines": [{"quantity": 1, "text": "\\ud800"}]}', 400),
        (b"[" * 10_000 + b"]" * 10_000, 400),
        (b'{"note": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"{}", 422),
        (b'{"lines": {}}', 422),
        (b'{"lines": [{"quantity": "NaN"}]}', 422),
        (b'{"lines": [{"quantity": "Infinity"}]}', 422),
        (b'{"lines": [{"quantity": "1_000"}]}', 422),
        ('{"lines": [{"quantity": "١٢"}]}'.encode(), 422),
        (b'{"lines": [{"quantity": 1E-30}]}', 422),
        (b'{"lines": [{"quantity": 1e400}]}', 422),
        (b'{"lines": [{"quantity": 0.0000001}]}', 422),
        (b'{"lines": [{"quantity": 9999999999999}]}', 422),
        (b'{"lines": [{"quantity": -1}]}', 422),
        (b'{"lines": [{"quantity": 0}]}', 422),
        (b'{"lines": [{"quantity": true}]}', 422),
        (b'{"lines": [{"quantity": null}]}', 422),
        (b'{"lines": [{"quantity": 1, "count": "5"}]}', 422),
        (b'{"lines": [{"quantity": 1, "count": 1.0}]}', 422),
        (b'{"lines": [{"quantity": 1, "count": 99999999999999999999999}]}', 422),
        (b'{"lines": [{"quantity": 1, "text": "a\\u0000b"}]}', 422),
        (b'{"lines": [{"quantity": 1}], "unknown": 1}', 422),
    ],
)
async def test_bad_body(anyone: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await send(anyone, body)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("number", ["12.5", '"12.5"', "12.50", '"0012.500000"'])
async def test_a_number_is_exact_as_string_or_json_number(anyone: httpx.AsyncClient, number: str) -> None:
    answer = await send(anyone, b'{"lines": [{"quantity": ' + number.encode() + b"}]}")
    assert (answer.status_code, answer.text) == (201, "12.5")


async def test_no_digit_passes_through_a_binary_float(anyone: httpx.AsyncClient) -> None:
    answer = await send(anyone, b'{"lines": [{"quantity": 123456789012.123456}]}')
    assert answer.text == "123456789012.123456"


async def test_every_bad_field_is_named_not_the_first(anyone: httpx.AsyncClient) -> None:
    answer = await send(
        anyone, b'{"lines": [{"quantity": "x", "count": "y", "z~1": 1}, {"count": 1}], "note": 7, "extra/field": true}'
    )
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {
        "/lines/0/quantity",
        "/lines/0/count",
        "/lines/0/z~01",
        "/lines/1/quantity",
        "/note",
        "/extra~1field",
    }


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(anyone: httpx.AsyncClient, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b" " * 65_536

    content = pieces() if chunked else b" " * (2 << 20)
    answer = await anyone.post("/test/bodies", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


async def test_a_fault_of_ours_tells_nothing_but_its_id(
    anyone: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await anyone.get("/test/bug", headers={"X-Request-Id": "find-me-again"})
    assert answer.status_code == 500
    assert answer.json() == {
        "type": "/problems/internal",
        "title": "Internal error",
        "status": 500,
        "request_id": "find-me-again",
    }


async def test_unknown_path_and_wrong_method(anyone: httpx.AsyncClient) -> None:
    assert (await anyone.get("/api/v1/nowhere")).json()["type"] == "/problems/not-found"
    wrong = await anyone.delete("/health/live")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "/problems/method-not-allowed")
    assert "GET" in wrong.headers["allow"]


async def test_a_misspelt_filter_does_not_list_everything(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/health/live?statsu=ACTIVE")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "statsu"


@pytest.mark.parametrize("sent", ["a b", "x" * 65, "<script>", ""])
async def test_an_insane_request_id_is_replaced(anyone: httpx.AsyncClient, sent: str) -> None:
    answer = await anyone.get("/health/live", headers={"X-Request-Id": sent})
    assert answer.headers["x-request-id"] != sent
    assert len(answer.headers["x-request-id"]) == 36


async def test_a_sane_request_id_is_taken(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/nowhere", headers={"X-Request-Id": "order-4711.a"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "order-4711.a"


@pytest.mark.parametrize("item_id", ["0", "-1", "1_0", "+1", "١", "1.0", "99999999999999999999", "x", "%00"])
async def test_what_is_no_id_is_not_found(reader: httpx.AsyncClient, item_id: str) -> None:
    answer = await reader.get(f"/api/v1/inventory/items/{item_id}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def test_limits_out_of_range_are_named(reader: httpx.AsyncClient) -> None:
    for limit in ("0", "501", "x", "1_0"):
        answer = await reader.get(f"/api/v1/inventory/items?limit={limit}")
        assert answer.status_code == 422, limit
        assert answer.json()["errors"][0]["parameter"] == "limit"


async def test_a_word_that_is_not_known_is_answered_with_those_that_are(reader: httpx.AsyncClient) -> None:
    for name, known in [("status", "ACTIVE, INACTIVE, DISCONTINUED"), ("sort", "id, -id, name, -name, sku, -sku")]:
        answer = await reader.get("/api/v1/inventory/items", params={name: "x" * 300})
        assert answer.json()["errors"] == [{"detail": f"is not one of {known}", "parameter": name}]
    spec = {"dataset": "x" * 300, "format": "doc", "csv": {"delimiter": "x"}}
    answer = await reader.post("/api/v1/exports/estimates", json=spec)
    details = {fault["pointer"]: fault["detail"] for fault in answer.json()["errors"]}
    assert "items, locations, stock_levels" in details["/dataset"]
    assert details["/format"] == "is not one of csv, jsonl, xlsx, parquet"
    assert details["/csv/delimiter"] == r'is not one of ",", ";", "|", tab, "\t"'


async def test_a_conflict_over_a_role_is_told_apart(reader: httpx.AsyncClient) -> None:
    answer = await reader.post("/api/v1/inventory/items", json={"sku": "A", "name": "A", "unit": "PCS"})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    assert Role.ADMIN in answer.json()["detail"]


def test_every_kind_of_refusal_has_a_status_of_its_kind() -> None:
    assert {kind.status for kind in errors.kinds()} >= {400, 401, 403, 404, 405, 409, 410, 412, 413, 422, 429, 500, 503}
