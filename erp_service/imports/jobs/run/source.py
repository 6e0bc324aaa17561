"""The file of an import on the worker's own disk: fetched from the store, and unpacked once."""

import asyncio
import contextlib
import errno
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from zoneinfo import ZoneInfo

from erp_service.exports.storage.base import FileKey, Store
from erp_service.imports.files.dialect import SEPARATORS, Dialect
from erp_service.imports.jobs.schemas import ImportSpec
from erp_service.imports.spool import Spooled, spooled_from


class NoRoom(Exception):
    """The worker's disk for temporary files is full."""


def dialect_of(spec: ImportSpec) -> Dialect:
    return Dialect(
        delimiter=SEPARATORS.get(spec.delimiter or ""),
        decimal_comma=spec.decimal_comma,
        zone=None if spec.timezone is None else ZoneInfo(spec.timezone),
        encoding=spec.encoding,
        history=spec.history,
        sort=spec.sort,
        keep_codes=spec.keep_codes,
    )


@contextlib.asynccontextmanager
async def fetched(
    store: Store,
    key: FileKey,
    bytes_: int,
    name: str,
    encoding: str | None,
    *,
    most_bytes: int,
    progress: Callable[[int], None],
) -> AsyncIterator[Spooled]:
    """Raises ImportRefused for what is damaged or expands to more than `most_bytes`; NoRoom; Missing and OSError of the
    store."""
    with tempfile.TemporaryFile(prefix="erp-import-") as file, contextlib.ExitStack() as stack:
        async for piece in store.read(key, 0, bytes_):
            with _own_disk():
                await asyncio.to_thread(file.write, piece)
        file.seek(0)
        opening = spooled_from(file, name, progress, encoding, most_bytes=most_bytes)
        with _own_disk():
            content = await asyncio.to_thread(stack.enter_context, opening)
        yield content


@contextlib.contextmanager
def _own_disk() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom from exc
        raise
