"""Workers in the test's own process, and the data that exports are made of."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.exports.context import ExportContext
from erp_service.exports.storage.base import FileHeaders, FileKey, Sink, Store
from erp_service.exports.storage.registry import open_store
from erp_service.processes.worker import build_app
from erp_service.queue.worker import HardenedApp
from erp_service.services import build_worker_services
from erp_service.settings import Settings
from erp_service.standalone.postgres import Cluster
from tests.conftest import eventually, make_user
from tests.exports.stores import ObjectServer, serving

JOBS = "/api/v1/exports/jobs"

# a cell each; what CSV, COPY's text format, spreadsheets and JSON each treat in their own way
NASTY = [
    "plain",
    "comma, and more",
    'quote " and ""',
    "two\nlines",
    "carriage\rreturn and\r\nboth",
    "00123",
    "ünï çödé 木",
    "emoji 🧾👩‍🔧",
    "back\\slash \\n \\N",
    "\\.",
    "one\n\\.\ntwo",
    "",
    " blanks around ",
    "tab\tin it",
    "=1+1",
    "+1",
    "@sum",
    "-2",
    "null",
    "NULL",
    "'",
    "$1 and {} and %s :name",
    "\u0001\u0002\u007f",
    "\u2028\ufeff",
]


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    store = open_store(settings)
    yield store
    await store.close()


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    with serving() as server:
        yield server


@pytest.fixture
def resources(settings: Settings, database: Database, store: Store) -> ExportContext:
    return ExportContext(settings, database, store)


Work = Callable[..., AbstractAsyncContextManager[HardenedApp]]


@pytest.fixture
def work(settings: Settings) -> Work:
    """`async with work():` runs one worker as production composes it, on the queues of exports.

    What is given by name stands in the place of what its ExportContext has, such as `store`."""

    @contextlib.asynccontextmanager
    async def work(*, grace_seconds: float = 10, **exports: Any) -> AsyncIterator[HardenedApp]:
        services = build_worker_services(msgspec.structs.replace(settings, grace_seconds=grace_seconds))
        given = msgspec.structs.replace(services.exports, **exports)
        services = msgspec.structs.replace(services, exports=given)
        app = build_app(services.settings, services)
        async with app.open_async():
            running = asyncio.create_task(
                app.run_worker_async(queues=["exports", "exports-small"], install_signal_handlers=False)
            )
            try:
                yield app
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
                await services.close()

    return work


@pytest.fixture
async def user(database: Database) -> int:
    return await make_user(database, Role.VIEWER)


async def submitted(client: httpx.AsyncClient, dataset: str = "items", **more: Any) -> str:
    answer = await client.post(JOBS, json={"dataset": dataset, "force_new": True, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def reaches(client: httpx.AsyncClient, export_id: str, *statuses: str, seconds: float = 20) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        job = (await client.get(f"{JOBS}/{export_id}")).json()
        return job if job["status"] in statuses else None

    found = await eventually(look, seconds=seconds)
    assert found is not None
    return found


async def done(client: httpx.AsyncClient, dataset: str = "items", **more: Any) -> dict[str, Any]:
    return await reaches(
        client, await submitted(client, dataset, **more), "succeeded", "failed", "canceled", seconds=30
    )


async def row_of(owner: asyncpg.Connection, export_id: str | UUID) -> asyncpg.Record:
    return await owner.fetchrow("select * from export_jobs where id = $1::text::uuid", str(export_id))


async def fill(owner: asyncpg.Connection, user_id: int, *, movements: int = 300) -> None:
    """Every dataset has rows, and every text column every nasty value at least once."""
    many = max(len(NASTY), 30)
    words = [NASTY[n % len(NASTY)] for n in range(many)]
    await owner.execute(
        "insert into items (sku, name, unit, description, reorder_point, deleted_at)"
        " select n || '-' || word, word, word, nullif(word, 'plain'), n / 8.0, case when n = 30 then now() end"
        " from unnest($1::text[]) with ordinality as w (word, n)",
        words,
    )
    await owner.execute(
        "insert into locations (code, name, location_type, address, parent_id)"
        " select n || '-' || word, word, 'WAREHOUSE', nullif(word, 'plain'), null"
        " from unnest($1::text[]) with ordinality as w (word, n)",
        words,
    )
    await owner.execute("update locations set parent_id = 1 where id > 5")
    await owner.execute("insert into stock_transactions (id, user_id) select gen_random_uuid(), $1", user_id)
    await owner.execute(
        "insert into stock_ledger (transaction_id, line, item_id, location_id, entry_type, quantity, value, unit_cost,"
        " on_hand_after, value_after, occurred_at, reference_no, notes, reason, metadata, user_id)"
        " select t.id, n, 1 + n % $3, 1 + n % 7, 'ADJUSTMENT', (n - 40) / 64.0, 999999999.9999 - n,"
        " case when n % 3 > 0 then n * 1.25 end, n, n,"
        " '2020-02-29 23:59:59.000001+00'::timestamptz + n * interval '1 h',"
        " ($4::text[])[1 + n % $3], nullif(($4::text[])[1 + n % $3], 'plain'), null,"
        " jsonb_build_object('note', ($4::text[])[1 + n % $3], 'n', n::text), $1"
        " from generate_series(1, $2::bigint) n, stock_transactions t",
        user_id,
        movements,
        many,
        words,
    )
    await owner.execute(
        "insert into stock_balances (item_id, location_id, on_hand, value) select n, 1 + n % 7, n % 5, (n % 5) * 1.1"
        " from generate_series(1, $1::bigint) n",
        many,
    )
    await owner.execute(
        "insert into audit_log (user_id, action, entity, entity_id, before, after, reason, request_id, address)"
        " select nullif($1, n), 'item.changed', 'item', n::text, null, jsonb_build_object('name', word), word, word,"
        " null"
        " from unnest($2::text[]) with ordinality as w (word, n)",
        user_id,
        words,
    )


Psql = Callable[[str], bytes]


@pytest.fixture
def psql(cluster: Cluster, database_name: str, tmp_path: Path) -> Psql:
    """What `\\copy (...) to FILE csv header` writes."""

    def copied(query: str) -> bytes:
        target = tmp_path / "psql.csv"
        command = f"\\copy ({query}) to '{target}' csv header"
        environment = {"PGTZ": "Pacific/Auckland", "PGDATESTYLE": "SQL, DMY", "PGCLIENTENCODING": "UTF8"}
        subprocess.run(
            [cluster.bin / "psql", "-X", "-d", cluster.owner_url(database_name), "-c", command],
            check=True,
            env=environment,
            capture_output=True,
        )
        return target.read_bytes()

    return copied


class GatedStore:
    """The real store, whose sink waits for `gate` once the first piece has `reached` it: in the middle of the COPY."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reached, self.gate = asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def writing(self, key: FileKey, headers: FileHeaders | None = None) -> AsyncIterator[Sink]:
        async with self._store.writing(key, headers) as sink:

            async def write(data: bytes) -> None:
                self.reached.set()
                await self.gate.wait()
                await sink(data)

            yield write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def many_items(owner: asyncpg.Connection, count: int = 60_000) -> None:
    """More than the buffers between Postgres and the file can hold."""
    await owner.execute(
        "insert into items (sku, name, unit, description)"
        " select 'SKU-' || n, 'Item ' || n, 'PCS', repeat('x', 150) from generate_series(1, $1::bigint) n",
        count,
    )


async def copies(owner: asyncpg.Connection) -> int:
    """How many connections of exports the server has."""
    return await owner.fetchval(  # type: ignore[no-any-return]
        "select count(*) from pg_stat_activity where application_name = 'erp export' and datname = current_database()"
    )
