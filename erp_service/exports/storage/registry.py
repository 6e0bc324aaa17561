"""The stores by their scheme, and how a store and the database know each other."""

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from sqlalchemy import func, select, update

from erp_service.db import Database, Session
from erp_service.exports.models import ExportStore
from erp_service.exports.storage.base import Store
from erp_service.exports.storage.files import FileStore
from erp_service.settings import Settings, SettingsError


def _files(address: str) -> Store:
    parts = urlsplit(address)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or path == Path("/"):
        raise SettingsError("ERP_EXPORT_STORE must name a directory by its whole path, such as file:///srv/exports.")
    return FileStore(path)


STORES: dict[str, Callable[[str], Store]] = {"file": _files}


def open_store(settings: Settings) -> Store:
    """Raises SettingsError for an address that is of no known store; touches nothing yet."""
    scheme = urlsplit(settings.export_store).scheme
    if (make := STORES.get(scheme)) is None:
        known = ", ".join(f"{name}:" for name in sorted(STORES))
        raise SettingsError(f"ERP_EXPORT_STORE must begin with one of: {known}")
    return make(settings.export_store)


def store_known(database: Database, store: Store) -> partial[Coroutine[Any, Any, str | None]]:
    """The check of `health.Readiness`."""
    return partial(store_fault, database=database, store=store)


async def store_fault(db: Session, database: Database, store: Store) -> str | None:
    """Why files must neither be written to nor read from this store, or None. A new database claims a new store.

    Two hosts with a directory each would publish files that only one of them has: the second is told here."""
    row = select(ExportStore.database_id, ExportStore.store_id)
    database_id, store_id = (await db.execute(row)).one()
    try:
        found = await store.identity()
        if store_id is None:
            return await _claim(database, store)
    except OSError as exc:
        return f"The export store cannot be used: {exc.strerror}."
    return _difference(found, f"{database_id}/{store_id}")


async def _claim(database: Database, store: Store) -> str | None:
    """Whoever comes second waits for the row, then compares; a crash in between leaves what the next one adopts."""
    async with database.write() as db:
        row = select(ExportStore.database_id, ExportStore.store_id).with_for_update()
        database_id, store_id = (await db.execute(row)).one()
        if store_id is not None:
            return _difference(await store.identity(), f"{database_id}/{store_id}")
        found = await store.claim(f"{database_id}/{uuid4()}")
        owner, _, claimed = found.partition("/")
        if owner != str(database_id):
            return "The export store belongs to another database."
        await db.execute(update(ExportStore).values(store_id=claimed, claimed_at=func.now()))
    return None


def _difference(found: str | None, expected: str) -> str | None:
    if found == expected:
        return None
    if found is None:
        return "The export store is not the one the database knows: it is empty. Is the shared directory mounted?"
    return "The export store is not the one the database knows."
