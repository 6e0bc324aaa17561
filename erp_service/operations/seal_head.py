"""The head of the trail, written elsewhere once a minute: `erp verify --head` proves against it what the owner of the
database could otherwise deny."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from prometheus_client import Counter

from erp_service.audit.schemas import SealHead
from erp_service.audit.seal_queries import head
from erp_service.db.engine import Database
from erp_service.exports.storage.registry import OBJECT_SCHEMES, open_objects
from erp_service.observability import telemetry
from erp_service.observability.telemetry import log
from erp_service.registry.housekeeping import HousekeepingStep
from erp_service.registry.services import ServiceSet
from erp_service.settings import Settings, SettingsError
from erp_service.timestamps import text_of

_VARIABLE = "ERP_SEAL_HEAD"
_LONGEST_LINE = 200

written = Counter(
    "erp_seal_heads", "Heads of the trail that this worker wrote elsewhere", ["outcome"], registry=telemetry.REGISTRY
)


class HeadTarget(Protocol):
    """Where heads are kept. `write` does nothing for a head that is there already; raises OSError."""

    async def write(self, head: SealHead) -> None: ...


class HeadFile:
    """A file with one head on each line. Give it a place where only adding is allowed (`chattr +a`), or that is copied
    away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def write(self, head: SealHead) -> None:
        await asyncio.to_thread(self._append, line_of(head))

    def _append(self, line: bytes) -> None:
        # in one write, so that two workers never mix their lines
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            end = os.pread(descriptor, _LONGEST_LINE, max(0, size - _LONGEST_LINE))
            if end.endswith(line):
                return
            # a line that a full disk cut short must not spoil this one
            text = line if not end or end.endswith(b"\n") else b"\n" + line
            if os.write(descriptor, text) != len(text):
                raise OSError(errno.ENOSPC, "only a part of the line was written", str(self._path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class HeadObjects:
    """Objects under the prefix of an address, one for each head, which are never written twice: lock them there."""

    def __init__(self, address: str, options: str | None) -> None:
        self._store = open_objects(_VARIABLE, address, options)

    async def write(self, head: SealHead) -> None:
        # in the order of positions when they are listed
        await self._store.create(f"head-{head.position:018d}-{head.link[:16]}", line_of(head))


def line_of(head: SealHead) -> bytes:
    """As audit/sealing/heads.py reads it."""
    time = "" if head.sealed_at is None else f" {text_of(head.sealed_at)}"
    return f"{head.position}:{head.link}{time}\n".encode()


def head_target(settings: Settings) -> HeadTarget | None:
    """None if heads are kept nowhere. Connects to nothing yet. Raises SettingsError."""
    if (address := settings.seal_head) is None:
        return None
    parts = urlsplit(address)
    if parts.scheme in OBJECT_SCHEMES:
        return HeadObjects(address, settings.seal_head_options)
    path = Path(unquote(parts.path))
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.is_absolute() or not path.name:
        raise SettingsError(
            f"{_VARIABLE} must be a file by its whole path, such as file:///srv/heads/erp, or a bucket, such as"
            " s3://bucket/prefix."
        )
    return HeadFile(path)


class HeadCopy:
    """Writes the head to `target`, if there is one."""

    def __init__(self, target: HeadTarget | None) -> None:
        self._target = target

    async def write(self, database: Database) -> None:
        """A target that fails is logged and counted: the next run, which follows in a minute, has a head of its own."""
        if self._target is None:
            return
        newest = await head(database.reader)
        if not newest.position:
            return
        try:
            await self._target.write(newest)
        except OSError as exc:
            written.labels("failed").inc()
            log.error("the head of the trail was not written elsewhere", error=exc)
        else:
            written.labels("written").inc()


async def _write(services: ServiceSet) -> None:
    await services.find(HeadCopy).write(services.find(Database))


HOUSEKEEPING = (HousekeepingStep("head of the trail", _write),)
