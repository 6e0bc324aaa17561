"""Whatever comes in is in NFC before any route, schema or filter sees it."""

import asyncio
import json
import random
import re
import unicodedata
from collections.abc import AsyncIterator
from itertools import pairwise
from time import thread_time
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from erp_service import errors
from erp_service.access.roles import Role
from erp_service.texts import normalised_json
from tests.architecture.assembled import HANDLERS
from tests.support.apps import services_of
from tests.support.clients import client_of
from tests.support.users import make_user, token_of

DECOMPOSED, COMPOSED = "cafe\u0301", "caf\u00e9"

# Reads a form, not JSON.
FORM = "/api/v1/auth/login"


@pytest.fixture(scope="module")
async def caller(shared_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    services = services_of(shared_app)
    user_id = await make_user(services.database, Role.SUPER_ADMIN)
    async with client_of(shared_app, token_of(services.settings, user_id)) as client:
        yield client


def address(path: str) -> str:
    """The path with ids that nothing has."""
    uuids = re.sub(r"\{\w+:uuid\}", "01890000-0000-7000-8000-000000000000", path)
    return re.sub(r"\{\w+:\w+\}", "1", uuids)


def methods(handler: HTTPRouteHandler) -> list[str]:
    return sorted(str(method) for method in handler.http_methods)


async def test_every_body_is_normalised_before_its_schema_sees_it(caller: httpx.AsyncClient) -> None:
    """A field that no schema has is named as the service read it."""
    with_body = [
        (path, handler)
        for path, handler in HANDLERS
        if "data" in handler.parsed_fn_signature.parameters and path != FORM
    ]
    assert len(with_body) > 15
    for path, handler in with_body:
        for body in (json.dumps({DECOMPOSED: 1}), json.dumps({DECOMPOSED: 1}, ensure_ascii=False)):
            headers = {"Content-Type": "application/json"}
            answer = await caller.request(methods(handler)[0], address(path), content=body.encode(), headers=headers)
            assert answer.status_code == 422, (path, answer.text)
            assert f"/{COMPOSED}" in [error["pointer"] for error in answer.json()["errors"]], path


async def test_every_query_is_normalised_before_a_filter_sees_it(caller: httpx.AsyncClient) -> None:
    """A parameter that no route has is named as the service read it."""
    paths = {path for path, handler in HANDLERS if path.startswith("/api/") and "GET" in methods(handler)}
    assert len(paths) > 15
    for path in sorted(paths):
        answer = await caller.get(address(path), params={DECOMPOSED: "1"})
        assert answer.status_code == 422, (path, answer.text)
        assert [error["parameter"] for error in answer.json()["errors"]] == [COMPOSED], path


# what joins, sorts or escapes in a way that a shortcut could get wrong
ATOMS = [
    *("e", "n", "t", "u0301", "\u00e9", "\u6f22", "<", "\u0338", "\u0301", "\u0316", "\u0f73", "\u0f71", "\u212b"),
    *("\\n", "\\u0301", "\\u000a", '\\"', "\\\\", "\\/", "\\u0065", "\\u0022", "\\u005c", "\\ud834\\udd5e"),
    *("\U0001d15e", "\\ud804\\udc99", "\\ud804\\udcba", "\u1100", "\u1161", "\\u1161", "\u11a8", "\uac00", "\ufb2c"),
]


def composed(value: Any) -> Any:
    match value:
        case str():
            return unicodedata.normalize("NFC", value)
        case dict():
            return {composed(key): composed(member) for key, member in value.items()}
        case list():
            return [composed(member) for member in value]
    return value


async def test_normalised_json_is_the_same_json_with_its_strings_in_nfc() -> None:
    draw = random.Random(1)
    for _ in range(3_000):
        strings = ["".join(draw.choices(ATOMS, k=draw.randint(0, 6))) for _ in range(3)]
        body = '{{"{}": ["{}", 12.50, "{}", {{}}]}}'.format(*strings).encode()
        assert json.loads(await normalised_json(body)) == composed(json.loads(body)), body


async def test_what_is_no_json_stays_as_it_is_and_numbers_keep_their_text() -> None:
    for body in (b"", b"\xff\xfe", b'"\\ud800"', b'{"\\u00', b"\\U00110000\\u0041", '"e\\q\u0301"'.encode()):
        assert await normalised_json(body) == body
    assert await normalised_json('["e\u0301", 1.10e5]'.encode()) == '["\u00e9", 1.10e5]'.encode()


async def test_hostile_texts_do_not_stop_the_event_loop() -> None:
    """A row of marks takes the square of its length, which would be minutes. In CPU seconds, against those of one such
    text normalised at once."""
    size = 1 << 20
    hostile = {
        "one letter with marks": "e" + "\u0301\u0316" * (size // 4),
        "decomposed": "e\u0301" * (size // 3),
        "composition exclusions": "\ufb2cxy" * (size // 5),
        "escapes": "\\u0065\\u0301" * (size // 12),
        "many strings": '","'.join(["e\\u0301\\n\\u0301"] * 9_000),
    }
    started = thread_time()
    unicodedata.normalize("NFC", hostile["composition exclusions"])
    measure = thread_time() - started
    for name, text in hostile.items():
        ticks = [thread_time()]
        task = asyncio.create_task(normalised_json(f'["{text}"]'.encode()))
        while not task.done():
            await asyncio.sleep(0)
            ticks.append(thread_time())
        if (error := task.exception()) is not None:
            assert isinstance(error, errors.Invalid)
        assert max(after - before for before, after in pairwise(ticks)) < measure, name
