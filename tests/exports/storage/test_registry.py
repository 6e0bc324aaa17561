"""The identity of store and database, which reveals two hosts with a directory each; and faults in the settings."""

import asyncio
import contextlib
import importlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from erp_service.app import create_app
from erp_service.db.engine import Database
from erp_service.exports.storage.base import Store, Unreachable
from erp_service.exports.storage.registry import StoreIdentityCheck, open_store, store_fault
from erp_service.services import build_services
from erp_service.settings import Settings, SettingsError, describe
from tests.exports.storage.object_server import SECRET_KEY
from tests.exports.storage.stores import KINDS, ObjectServer, having
from tests.support.apps import running, services_of
from tests.support.clients import client_of


class Places:
    """Makes stores of one kind; the same name gives the same store."""

    def __init__(self, settings: Settings, database: Database, kind: str, server: ObjectServer, root: Path) -> None:
        self._settings, self._database, self._kind, self._server, self.root = settings, database, kind, server, root

    def settings(self, name: str) -> Settings:
        return having(self._settings, self._kind, self._server, self.root / name)

    @contextlib.asynccontextmanager
    async def store(self, name: str) -> AsyncIterator[Store]:
        store = open_store(self.settings(name))
        yield store
        await store.close()

    async def fault(self, name: str) -> str | None:
        async with self.store(name) as store, self._database.read() as db:
            return await store_fault(db, self._database, store)


@pytest.fixture(params=KINDS)
def places(
    request: pytest.FixtureRequest, settings: Settings, database: Database, object_server: ObjectServer, tmp_path: Path
) -> Places:
    return Places(settings, database, request.param, object_server, tmp_path)


@pytest.fixture(params=[kind for kind in KINDS if kind != "postgres"])
def elsewhere(
    request: pytest.FixtureRequest, settings: Settings, database: Database, object_server: ObjectServer, tmp_path: Path
) -> Places:
    """A kind of which there can be two."""
    return Places(settings, database, request.param, object_server, tmp_path)


async def test_first_instance_claims_the_store_and_the_others_find_it(places: Places) -> None:
    assert await asyncio.gather(*(places.fault("a") for _ in range(5))) == [None] * 5
    assert await places.fault("a") is None


async def test_host_with_a_directory_or_prefix_of_its_own_is_told(elsewhere: Places) -> None:
    assert await elsewhere.fault("a") is None
    assert "not the one the database knows: it is empty" in str(await elsewhere.fault("b"))


async def test_of_two_hosts_at_once_with_a_store_each_one_is_told(elsewhere: Places) -> None:
    faults = await asyncio.gather(elsewhere.fault("a"), elsewhere.fault("b"))
    assert [found is None for found in faults].count(True) == 1


async def test_store_of_another_database_is_left_alone(elsewhere: Places, owner: asyncpg.Connection) -> None:
    assert await elsewhere.fault("a") is None
    await owner.execute("update export_store set database_id = gen_random_uuid(), store_id = null")
    assert await elsewhere.fault("a") == "The export store belongs to another database."
    assert await owner.fetchval("select store_id from export_store") is None


async def test_claim_that_a_crash_cut_short_is_adopted(places: Places, owner: asyncpg.Connection) -> None:
    assert await places.fault("a") is None
    known = await owner.fetchval("select store_id from export_store")
    await owner.execute("update export_store set store_id = null")
    assert await places.fault("a") is None
    assert await owner.fetchval("select store_id from export_store") == known


async def test_database_that_was_copied_brings_its_own_store_along(
    settings: Settings, database: Database, owner: asyncpg.Connection, object_server: ObjectServer, tmp_path: Path
) -> None:
    inside = Places(settings, database, "postgres", object_server, tmp_path)
    assert await inside.fault("any") is None
    # a copy is the same rows under another name
    assert await inside.fault("any") is None
    directory = Places(settings, database, "files", object_server, tmp_path)
    assert "not the one the database knows" in str(await directory.fault("a"))


async def test_another_kind_of_store_is_told(
    settings: Settings, database: Database, object_server: ObjectServer, tmp_path: Path
) -> None:
    """Changing the setting would lose the files in the old store."""
    files, inside = (Places(settings, database, kind, object_server, tmp_path) for kind in ("files", "postgres"))
    assert await files.fault("a") is None
    assert await inside.fault("a") == "The export store is not the one the database knows."


async def test_store_that_cannot_be_used_is_told(database: Database, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    store = open_store(msgspec.structs.replace(settings, export_store=f"file://{tmp_path}/a"))
    async with database.read() as db:
        assert "cannot be used" in str(await store_fault(db, database, store))


@pytest.mark.parametrize("kind", ["files", "objects"])
async def test_instance_whose_store_was_emptied_or_exchanged_is_not_ready_and_says_why(
    kind: str, settings: Settings, object_server: ObjectServer, tmp_path: Path
) -> None:
    app = create_app(build_services(having(settings, kind, object_server, tmp_path)))
    async with running(app), client_of(app) as client:
        assert (await client.get("/health/ready")).status_code == 200
        other: Any = open_store(having(settings, kind, object_server, tmp_path / "other"))
        if kind == "files":
            shutil.rmtree(tmp_path / "made")
        else:
            made: Any = services_of(app).exports.store
            await made._delete(".erp-export-store")
        await says(client, "is empty")
        await services_of(app).exports.store.claim("another/one")
        await says(client, "not the one the database knows")
        await other.close()


async def says(client: httpx.AsyncClient, why: str) -> None:
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert why in answer.json()["detail"]


class Silent:
    """A store that answers only while the test lets it."""

    def __init__(self, store: Store) -> None:
        self._store, self.answers = store, True

    async def identity(self) -> str | None:
        if not self.answers:
            raise Unreachable(5, "it cannot be reached")
        return await self._store.identity()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_object_store_that_is_away_stops_no_instance_that_has_seen_it_and_no_new_one_starts(
    settings: Settings, database: Database, object_server: ObjectServer, tmp_path: Path
) -> None:
    """All instances see the same outage: if all were not ready because of it, stock could not be posted either."""
    store: Any = Silent(open_store(having(settings, "objects", object_server, tmp_path)))
    seen, new = StoreIdentityCheck(database, store), StoreIdentityCheck(database, store)
    async with database.read() as db:
        assert await seen(db) is None
        store.answers = False
        assert await seen(db) is None
        assert await new(db) == "The export store cannot be used: it cannot be reached."
        store.answers = True
        await store._delete(".erp-export-store")
        assert "is empty" in str(await seen(db))


async def test_store_that_hangs_is_not_waited_for(
    settings: Settings, database: Database, object_server: ObjectServer, tmp_path: Path
) -> None:
    async def hang() -> str | None:
        await asyncio.Event().wait()
        return None

    store: Any = Silent(open_store(having(settings, "objects", object_server, tmp_path)))
    store.identity = hang
    # a look that has no deadline of its own never ends
    async with asyncio.timeout(30), database.read() as db:
        assert await store_fault(db, database, store) == "The export store cannot be used: it does not answer."


ADDRESSES = [
    *("ftp://x/y", "file:///", "file://relative/path", "exports", "s4://bucket", "memory:///", "https://host/bucket"),
    *("postgres://host/other", "postgres:other", "s3://", "s3:///prefix", f"s3://key:{SECRET_KEY}@bucket/prefix"),
    *("s3://bucket/prefix?x=1", "az://container/prefix"),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_of_no_store_stops_the_start_with_a_sentence(address: str, settings: Settings) -> None:
    with pytest.raises(SettingsError) as told:
        open_store(msgspec.structs.replace(settings, export_store=address))
    assert SECRET_KEY not in str(told.value)


@pytest.mark.parametrize("options", [f"secret_access_key:{SECRET_KEY}", f"nonsense={SECRET_KEY}", f"a=b,{SECRET_KEY}"])
def test_options_that_cannot_be_read_stop_the_start_without_being_shown(options: str, settings: Settings) -> None:
    with pytest.raises(SettingsError, match="ERP_EXPORT_STORE_OPTIONS") as told:
        open_store(msgspec.structs.replace(settings, export_store="s3://bucket/x", export_store_options=options))
    assert SECRET_KEY not in str(told.value)


def test_options_are_shown_to_nobody(settings: Settings) -> None:
    """Errors of libraries often contain the whole address, in which only a password would be masked."""
    options = f"endpoint=https://minio:9000,secret_access_key={SECRET_KEY}"
    shown = str(list(describe(msgspec.structs.replace(settings, export_store_options=options))))
    assert SECRET_KEY not in shown
    assert "minio" not in shown


@pytest.mark.parametrize("kind", ["files", "postgres"])
def test_redirect_to_a_store_that_nobody_else_can_ask_stops_the_start(
    kind: str, settings: Settings, object_server: ObjectServer, tmp_path: Path
) -> None:
    chosen = msgspec.structs.replace(having(settings, kind, object_server, tmp_path), export_store_redirect=True)
    with pytest.raises(SettingsError, match="ERP_EXPORT_STORE_REDIRECT needs an object store"):
        open_store(chosen)


def test_object_store_without_its_extra_stops_the_start_with_the_command_that_helps(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_name: str) -> None:
        raise ModuleNotFoundError("No module named 'obstore'", name="obstore")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SettingsError, match=r"pip install 'erp-service\[objects\]'"):
        open_store(msgspec.structs.replace(settings, export_store="s3://bucket/x"))
