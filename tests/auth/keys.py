"""API keys, as their makers make them and as programs use them."""

from typing import Any, NamedTuple

import httpx
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope

KEYS = "/api/v1/api-keys"
ITEMS = "/api/v1/inventory/items"
ALL_SCOPES = tuple(Scope)


class MadeKey(NamedTuple):
    id: int
    key: str


async def make_key(
    maker: httpx.AsyncClient, *scopes: Scope, role: Role = Role.VIEWER, name: str = "a program", **more: Any
) -> MadeKey:
    body = {"name": name, "role": role, "scopes": scopes or ALL_SCOPES, **more}
    answer = await maker.post(KEYS, json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return MadeKey(made["id"], made["key"])


def client_from(app: Litestar, address: str, key: str) -> httpx.AsyncClient:
    """A program that sends the key from this network address."""
    transport = httpx.ASGITransport(app, client=(address, 40_000))  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)
