"""What a part is measured on: a cluster, a database with movements, an instance of the service, and the peers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import asyncpg
import httpx
from msgspec.structs import replace

from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import Process, instance
from tests.bench import ground
from tests.bench.load import Call, Caller, NotMeasured, Target
from tests.bench.records import OURS
from tests.support.company import set_company_at
from tests.support.users import token_of

ITEMS = 4000
LOCATIONS = 7
TOKEN_SECONDS = 6 * 3600


class Data(NamedTuple):
    """A database with so many movements of so many items, and an administrator."""

    name: str
    rows: int
    items: int
    settings: Settings
    user_id: int


class Stage(NamedTuple):
    cluster: Cluster
    data: Data
    directory: Path
    server: Process
    client: httpx.AsyncClient
    caller: Caller

    @property
    def ours(self) -> Target:
        return Target(OURS, self.server.url, (self.server.pid,))

    @contextlib.asynccontextmanager
    async def sql(self) -> AsyncIterator[asyncpg.Connection]:
        """As the owner."""
        connection = await asyncpg.connect(self.cluster.owner_url(self.data.name))
        try:
            yield connection
        finally:
            await connection.close()


def postmaster(cluster: Cluster) -> int:
    assert cluster.pid is not None
    return cluster.pid


async def make_data(cluster: Cluster, directory: Path, name: str, rows: int, items: int = ITEMS) -> Data:
    """Documents have about ten lines each."""
    documents = max(10, rows // 10)
    # a directory of export files belongs to one database
    own = directory / name
    await asyncio.to_thread(own.mkdir)
    settings, user_id = await ground.made(cluster, own, rows, database_name=name, items=items, documents=documents)
    await set_company_at(cluster.owner_url(name), exports_running_per_user=100, exports_waiting_per_user=10_000)
    return Data(name, rows, items, for_load(settings), user_id)


def for_load(settings: Settings) -> Settings:
    """One user sends everything, for longer than a token usually lasts."""
    return replace(
        settings,
        access_token_seconds=TOKEN_SECONDS,
        heartbeat_seconds=5,
        stalled_seconds=15,
    )


@contextlib.asynccontextmanager
async def stage(cluster: Cluster, data: Data, directory: Path, **more: str) -> AsyncIterator[Stage]:
    """`more` are environment variables of the instance."""
    token = token_of(data.settings, data.user_id)
    async with (
        instance(data.settings, directory / f"serve-{data.name}.log", **more) as server,
        httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client,
    ):
        yield Stage(cluster, data, directory, server, client, Caller(token, postmaster(cluster)))


async def answer(stage: Stage, call: Call, url: str = "", *, keyed: bool = False) -> httpx.Response:
    """`keyed`: with an Idempotency-Key. Raises NotMeasured unless it is a success."""
    headers = {"Idempotency-Key": str(uuid4())} if keyed else {}
    response = await stage.client.request(call.method, url + call.path, json=call.body, headers=headers)
    if not response.is_success:
        raise NotMeasured(f"{call.method} {call.path} answers {response.status_code}: {response.text[:300]}")
    return response
