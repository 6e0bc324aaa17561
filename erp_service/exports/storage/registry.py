"""The stores by their scheme, and how a store and the database identify each other."""

import asyncio
import errno
import importlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import msgspec
from sqlalchemy import func, select, update

from erp_service.db.engine import Database
from erp_service.db.sessions import ReadSession, Session
from erp_service.exports.models import ExportStore
from erp_service.exports.problems import StoreUnavailable
from erp_service.exports.storage.base import FileKey, Store, Unreachable
from erp_service.exports.storage.files import FileStore
from erp_service.exports.storage.postgres import PostgresStore
from erp_service.observability.telemetry import log
from erp_service.settings import Settings, SettingsError

T = TypeVar("T")

OBJECT_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")

_ANSWER_SECONDS = 2.0
"""Readiness asks the store too, and has three seconds for all its questions."""
_REQUEST_SECONDS = 4.0
"""A request keeps its transaction open meanwhile, which Postgres ends after five seconds."""
_CONNECTIONS = 4


def _files(settings: Settings) -> Store:
    parts = urlsplit(settings.export_store)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or path == Path("/"):
        raise SettingsError("ERP_EXPORT_STORE must name a directory by its whole path, such as file:///srv/exports.")
    return FileStore(path)


def _postgres(settings: Settings) -> Store:
    if settings.export_store not in ("postgres:", "postgres://"):
        raise SettingsError("ERP_EXPORT_STORE=postgres: is the database of ERP_DATABASE_URL, so it takes no address.")
    # a pool of its own: a request that holds a connection must not wait for a second one of the same pool
    own = msgspec.structs.replace(settings, pool_size=min(_CONNECTIONS, settings.pool_size), replica_url=None)
    return PostgresStore(Database(own, name="erp export store"))


def _objects(settings: Settings) -> Store:
    store: Store = open_objects("ERP_EXPORT_STORE", settings.export_store, settings.export_store_options)
    return store


def open_objects(variable: str, address: str, options: str | None) -> Any:
    """The `objects.ObjectStore` of an address; `variable` is the setting that says it, and has `options` in another
    one. Connects to nothing yet. Raises SettingsError."""
    parts = urlsplit(address)
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(
            f"{variable} must name a bucket, such as s3://bucket/prefix; endpoint and credentials are"
            f" {variable}_OPTIONS."
        )
    try:
        # needs the package's extra `objects`
        module: Any = importlib.import_module("erp_service.exports.storage.objects")
    except ModuleNotFoundError as exc:
        if exc.name != "obstore":
            raise
        raise SettingsError(f"{variable}={parts.scheme}: needs obstore: pip install 'erp-service[objects]'.") from None
    try:
        return module.connected(address, _options(variable, options or ""))
    except ValueError as exc:
        raise SettingsError(f"{variable} cannot be used with its {variable}_OPTIONS: {exc}.") from None


def _options(variable: str, text: str) -> Mapping[str, str]:
    """Raises SettingsError, which repeats nothing of the text."""
    options = {}
    for line in text.replace(",", "\n").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals:
            options[name.strip().lower()] = value.strip()
        elif name:
            raise SettingsError(f"{variable}_OPTIONS must be name=value, separated by commas or lines.")
    return options


STORES: dict[str, Callable[[Settings], Store]] = {
    "file": _files,
    "postgres": _postgres,
    **dict.fromkeys(OBJECT_SCHEMES, _objects),
}


def open_store(settings: Settings) -> Store:
    """Connects to nothing yet; the caller closes it. Raises SettingsError for an address of no known kind of store."""
    scheme = urlsplit(settings.export_store).scheme
    if (make := STORES.get(scheme)) is None:
        known = ", ".join(f"{name}:" for name in sorted(STORES))
        raise SettingsError(f"ERP_EXPORT_STORE must begin with one of: {known}")
    if settings.export_store_redirect and scheme not in OBJECT_SCHEMES:
        raise SettingsError(
            f"ERP_EXPORT_STORE_REDIRECT needs an object store, since only this service can send files of {scheme}:"
        )
    return make(settings)


async def size_for_request(store: Store, key: FileKey) -> int | None:
    """The file's size; None if there is no such file. Raises StoreUnavailable."""
    try:
        return await _in_time(store.size(key), _REQUEST_SECONDS)
    except OSError as exc:
        raise _unavailable(exc) from exc


async def address_for_request(store: Store, key: FileKey, method: str) -> str | None:
    """The address of the file in the store itself; None if the store sends no files. Raises StoreUnavailable."""
    try:
        return await _in_time(store.address(key, "HEAD" if method == "HEAD" else "GET"), _REQUEST_SECONDS)
    except OSError as exc:
        raise _unavailable(exc) from exc


def _unavailable(exc: OSError) -> StoreUnavailable:
    log.error("the export store does not answer", error=exc)
    return StoreUnavailable(headers={"Retry-After": "5"})


class StoreIdentityCheck:
    """A check of `operations.readiness.Readiness`. A store that does not answer is a fault only until it was once seen
    to be the right one: later, all instances may lose it at once, and must not stop all other work because of it."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database, self._store = database, store
        self._was_right = False

    async def __call__(self, db: ReadSession) -> str | None:
        try:
            fault = await mismatch(db, self._database, self._store)
        except Unreachable as exc:
            return None if self._was_right else _unusable(exc)
        except OSError as exc:
            return _unusable(exc)
        self._was_right = self._was_right or fault is None
        return fault


async def store_fault(db: Session, database: Database, store: Store) -> str | None:
    """Why files must be neither written to this store nor read from it, or None. A new database claims a new store."""
    try:
        return await mismatch(db, database, store)
    except OSError as exc:
        return _unusable(exc)


async def mismatch(db: Session, database: Database, store: Store) -> str | None:
    """Why the store is not the one the database knows, or None; raises OSError if the store does not answer.

    Two hosts with a directory each would publish files that only one of them has: on the second, this finds it."""
    row = select(ExportStore.database_id, ExportStore.store_id)
    database_id, store_id = (await db.execute(row)).one()
    identity = await _in_time(store.identity())
    if store_id is None:
        return await _claim(database, store)
    return _compare(identity, f"{database_id}/{store_id}")


async def _in_time(answer: Coroutine[Any, Any, T], seconds: float = _ANSWER_SECONDS) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise Unreachable(errno.ETIMEDOUT, "it does not answer") from None


def _unusable(exc: OSError) -> str:
    return f"The export store cannot be used: {exc.strerror or exc}."


async def _claim(database: Database, store: Store) -> str | None:
    """A second process waits for the row, then compares. A crash between the two writes leaves an identity in the
    store, which the next process adopts."""
    async with database.write() as db:
        row = select(ExportStore.database_id, ExportStore.store_id).with_for_update()
        database_id, store_id = (await db.execute(row)).one()
        if store_id is not None:
            return _compare(await _in_time(store.identity()), f"{database_id}/{store_id}")
        identity = await _in_time(store.claim(f"{database_id}/{uuid4()}"))
        owner_id, _, claimed_id = identity.partition("/")
        if owner_id != str(database_id):
            return "The export store belongs to another database."
        await db.execute(update(ExportStore).values(store_id=claimed_id, claimed_at=func.now()))
    return None


def _compare(identity: str | None, expected: str) -> str | None:
    if identity == expected:
        return None
    if identity is None:
        return (
            "The export store is not the one the database knows: it is empty. Is it mounted, or is it another prefix?"
        )
    return "The export store is not the one the database knows."
