"""The peer `bare`: the least that a handler in this language and framework does for the same answer.

The same Litestar, uvicorn, uvloop, msgspec, PyJWT and asyncpg as the service, with a pool of the same size, and the
same columns and JSON. The token's signature and claims are checked on each request. It has nothing else that a service
needs: no roles, no revocation, no request id, no metrics, no problem documents, no ETag, no filters. So it is a bound
and nothing that anybody could run. The difference is what those cost."""

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal

import asyncpg
import jwt
import msgspec
from litestar import Litestar, Request, get
from litestar.datastructures import State
from litestar.exceptions import NotAuthorizedException, NotFoundException

SECRET, ISSUER, AUDIENCE = os.environ["PEER_SECRET"], "erp_service", "erp_service/api"
COLUMNS = (
    "id, sku, name, unit, decimals, units, barcode, external_id, metadata, status, description,"
    " trim_scale(reorder_point), version, created_at, updated_at, deleted_at"
)
ONE = f"select {COLUMNS} from items where id = $1 and deleted_at is null"
PAGE = f"select {COLUMNS} from items where deleted_at is null and id > $1 order by id limit $2"


class Item(msgspec.Struct):
    id: int
    sku: str
    name: str
    unit: str
    decimals: int
    units: msgspec.Raw
    barcode: str | None
    external_id: str | None
    metadata: msgspec.Raw
    status: str
    description: str | None
    reorder_point: Decimal | None
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class ItemPage(msgspec.Struct):
    items: list[Item]
    next_cursor: str | None


class Alive(msgspec.Struct):
    status: str = "ok"


async def json_as_it_is(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=str, decoder=lambda text: msgspec.Raw(text.encode())
    )


@asynccontextmanager
async def pooled(app: Litestar) -> AsyncIterator[None]:
    url = os.environ["PEER_DATABASE_URL"]
    async with asyncpg.create_pool(url, min_size=10, max_size=10, init=json_as_it_is) as pool:
        app.state.pool = pool
        yield


def check_token(request: Request[None, None, State]) -> None:
    try:
        jwt.decode(
            request.headers.get("authorization", "").removeprefix("Bearer "),
            SECRET,
            ["HS256"],
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway=10,
            options={"require": ["exp", "iat", "sub", "iss", "aud"]},
        )
    except jwt.InvalidTokenError:
        raise NotAuthorizedException from None


@get("/api/v1/inventory/items/{item_id:int}")
async def item_by_id(request: Request[None, None, State], state: State, item_id: int) -> Item:
    check_token(request)
    if (row := await state.pool.fetchrow(ONE, item_id)) is None:
        raise NotFoundException
    return Item(*row)


@get("/api/v1/inventory/items")
async def item_page(request: Request[None, None, State], state: State, limit: int, after: int = 0) -> ItemPage:
    check_token(request)
    items = [Item(*row) for row in await state.pool.fetch(PAGE, after, limit + 1)]
    more = len(items) > limit
    del items[limit:]
    return ItemPage(items, base64.urlsafe_b64encode(str(items[-1].id).encode()).decode() if more else None)


@get("/health/live")
async def live() -> Alive:
    return Alive()


app = Litestar([item_by_id, item_page, live], lifespan=[pooled], logging_config=None, openapi_config=None)
