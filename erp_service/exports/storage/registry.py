"""The stores by their scheme, and how a store and the database know each other."""

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
"""Readiness asks the store too, and has three seconds for all it asks."""
_REQUEST_SECONDS = 4.0
"""A request holds its transaction open meanwhile, which Postgres ends after five."""
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
    # connections of its own: a request that holds one of the others must never wait for one of the same
    own = msgspec.structs.replace(settings, pool_size=min(_CONNECTIONS, settings.pool_size), replica_url=None)
    return PostgresStore(Database(own, name="erp export store"))


def _objects(settings: Settings) -> Store:
    parts = urlsplit(settings.export_store)
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(
            "ERP_EXPORT_STORE must name a bucket, such as s3://bucket/prefix; endpoint and credentials are"
            " ERP_EXPORT_STORE_OPTIONS."
        )
    try:
        # an extra of the package: `objects`
        module: Any = importlib.import_module("erp_service.exports.storage.objects")
    except ModuleNotFoundError as exc:
        if exc.name != "obstore":
            raise
        raise SettingsError(
            f"ERP_EXPORT_STORE={parts.scheme}: needs obstore: pip install 'erp-service[objects]'."
        ) from None
    try:
        store: Store = module.connected(settings.export_store, _options(settings.export_store_options or ""))
    except ValueError as exc:
        raise SettingsError(f"ERP_EXPORT_STORE cannot be used with its ERP_EXPORT_STORE_OPTIONS: {exc}.") from None
    return store


def _options(text: str) -> Mapping[str, str]:
    """Raises SettingsError, which repeats nothing of it."""
    options = {}
    for line in text.replace(",", "\n").splitlines():
        name, given, value = line.strip().partition("=")
        if given:
            options[name.strip().lower()] = value.strip()
        elif name:
            raise SettingsError("ERP_EXPORT_STORE_OPTIONS must be name=value, separated by commas or lines.")
    return options


STORES: dict[str, Callable[[Settings], Store]] = {
    "file": _files,
    "postgres": _postgres,
    **dict.fromkeys(OBJECT_SCHEMES, _objects),
}


def open_store(settings: Settings) -> Store:
    """Raises SettingsError for an address that is of no known store; touches nothing yet. Close it in the end."""
    scheme = urlsplit(settings.export_store).scheme
    if (make := STORES.get(scheme)) is None:
        known = ", ".join(f"{name}:" for name in sorted(STORES))
        raise SettingsError(f"ERP_EXPORT_STORE must begin with one of: {known}")
    if settings.export_store_redirect and scheme not in OBJECT_SCHEMES:
        raise SettingsError(
            f"ERP_EXPORT_STORE_REDIRECT needs an object store, since nobody but this service can be asked for files of"
            f" {scheme}:"
        )
    return make(settings)


async def held(store: Store, key: FileKey) -> int | None:
    """The file's size for a request; None if it is not there. Raises StoreUnavailable."""
    try:
        return await _answered(store.size(key), _REQUEST_SECONDS)
    except OSError as exc:
        raise _unavailable(exc) from exc


async def address(store: Store, key: FileKey, method: str) -> str | None:
    """For a request; None if the store cannot be asked by others. Raises StoreUnavailable."""
    try:
        return await _answered(store.address(key, "HEAD" if method == "HEAD" else "GET"), _REQUEST_SECONDS)
    except OSError as exc:
        raise _unavailable(exc) from exc


def _unavailable(exc: OSError) -> StoreUnavailable:
    log.error("the export store does not answer", error=repr(exc))
    return StoreUnavailable(headers={"Retry-After": "5"})


class StoreIdentityCheck:
    """The check of `health.Readiness`. A store that does not answer was either never seen, or seen to be the right one:
    then the whole fleet may see the same, and must not stop all other work for it."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database, self._store = database, store
        self._seen = False

    async def __call__(self, db: ReadSession) -> str | None:
        try:
            fault = await difference(db, self._database, self._store)
        except Unreachable as exc:
            return None if self._seen else _unusable(exc)
        except OSError as exc:
            return _unusable(exc)
        self._seen = self._seen or fault is None
        return fault


async def store_fault(db: Session, database: Database, store: Store) -> str | None:
    """Why files must neither be written to nor read from this store, or None. A new database claims a new store."""
    try:
        return await difference(db, database, store)
    except OSError as exc:
        return _unusable(exc)


async def difference(db: Session, database: Database, store: Store) -> str | None:
    """Why the store is not the one the database knows, or None; raises OSError if it does not say.

    Two hosts with a directory each would publish files that only one of them has: the second is told here."""
    row = select(ExportStore.database_id, ExportStore.store_id)
    database_id, store_id = (await db.execute(row)).one()
    found = await _answered(store.identity())
    if store_id is None:
        return await _claim(database, store)
    return _difference(found, f"{database_id}/{store_id}")


async def _answered(asked: Coroutine[Any, Any, T], seconds: float = _ANSWER_SECONDS) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError:
        raise Unreachable(errno.ETIMEDOUT, "it does not answer") from None


def _unusable(exc: OSError) -> str:
    return f"The export store cannot be used: {exc.strerror or exc}."


async def _claim(database: Database, store: Store) -> str | None:
    """Whoever comes second waits for the row, then compares; a crash in between leaves what the next one adopts."""
    async with database.write() as db:
        row = select(ExportStore.database_id, ExportStore.store_id).with_for_update()
        database_id, store_id = (await db.execute(row)).one()
        if store_id is not None:
            return _difference(await _answered(store.identity()), f"{database_id}/{store_id}")
        found = await _answered(store.claim(f"{database_id}/{uuid4()}"))
        owner, _, claimed = found.partition("/")
        if owner != str(database_id):
            return "The export store belongs to another database."
        await db.execute(update(ExportStore).values(store_id=claimed, claimed_at=func.now()))
    return None


def _difference(found: str | None, expected: str) -> str | None:
    if found == expected:
        return None
    if found is None:
        return (
            "The export store is not the one the database knows: it is empty. Is it mounted, or is it another prefix?"
        )
    return "The export store is not the one the database knows."
