"""The directory of backups. Each backup is a directory of its own, which gets its name only when it is complete.

20261123T020000Z-dump/    database.dump  proof.json  globals.sql  manifest.json  SHA256SUMS
20261123T030000Z-base/    base.tar.gz    manifest.json  SHA256SUMS
wal-7412345678901234567/  WAL segments of the cluster with this system identifier
.20261124T020000Z-dump.part/   incomplete: being written, or its command was killed; the next backup removes it
.lock                     held while a backup is taken
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .encryption import digest_of
from .programs import Failure
from .retention import Retention, retained

Kind = Literal["dump", "base"]
KINDS: tuple[Kind, ...] = ("dump", "base")
DUMP, COUNTS, GLOBALS, EXPORTS = "database.dump", "proof.json", "globals.sql", "export-files.tar.gz"
BASE = "base.tar.gz"
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
_NAME = re.compile(r"(\d{8}T\d{6}Z)-(dump|base)")
_TIMESTAMP = "%Y%m%dT%H%M%SZ"


class Busy(Failure):
    """Another backup is being taken into the same directory."""


class Backup(NamedTuple):
    """A complete backup; `at` is when it began."""

    path: Path
    kind: Kind
    at: datetime

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.path.iterdir())

    def manifest(self) -> dict[str, Any]:
        """Raises Failure."""
        try:
            manifest: dict[str, Any] = json.loads((self.path / MANIFEST).read_text())
        except (OSError, ValueError) as exc:
            raise Failure(f"{self.name}: its {MANIFEST} cannot be read ({exc}): this backup is not whole") from None
        return manifest


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Raises Busy. The kernel releases the lock when its holder ends, in whatever way."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another backup is being taken into {directory}") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def incomplete(directory: Path, kind: Kind) -> Iterator[tuple[Path, str]]:
    """A hidden directory to write into, and the name that `publish` will give it. What was not published is removed.

    The caller holds the lock."""
    for old in directory.glob(".*.part"):
        if _NAME.fullmatch(old.name[1:].removesuffix(".part")):
            shutil.rmtree(old)
    while (directory / (name := f"{datetime.now(UTC).strftime(_TIMESTAMP)}-{kind}")).exists():
        time.sleep(0.1)
    hidden = directory / f".{name}.part"
    hidden.mkdir(mode=0o700)
    try:
        yield hidden, name
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def complete(hidden: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest with the length of each file, and last the digests."""
    files = sorted(hidden.iterdir())
    lengths = {file.name: file.stat().st_size for file in files}
    _write(hidden / MANIFEST, json.dumps({**manifest, "files": lengths}, indent=2) + "\n")
    lines = [f"{digest_of(file)}  {file.name}\n" for file in [*files, hidden / MANIFEST]]
    _write(hidden / SUMS, "".join(lines))


def publish(hidden: Path, name: str) -> Backup:
    """Fsync, rename, fsync: after a crash, a backup under this name is complete."""
    sync(hidden)
    hidden.rename(hidden.parent / name)
    sync(hidden.parent)
    return backup_at(hidden.parent / name)


def _write(path: Path, text: str) -> None:
    with path.open("x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def backup_at(path: Path) -> Backup:
    """Raises Failure if the path is not that of a backup."""
    match = _NAME.fullmatch(path.name)
    if match is None or not path.is_dir():
        raise Failure(f"{path} is no backup: one is a directory such as 20261123T020000Z-dump")
    kind: Kind = "dump" if match[2] == "dump" else "base"
    return Backup(path, kind, datetime.strptime(match[1], _TIMESTAMP).replace(tzinfo=UTC))


def backups(directory: Path, kind: Kind) -> list[Backup]:
    """The oldest first."""
    paths = [path for path in directory.glob(f"*-{kind}") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(map(backup_at, paths), key=lambda backup: backup.at)


def verify_digests(backup: Backup) -> None:
    """Raises Failure unless each file is as it was written."""
    manifest = backup.manifest()
    try:
        lines = (backup.path / SUMS).read_text().splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    except (OSError, ValueError) as exc:
        raise Failure(f"{backup.name}: its {SUMS} cannot be read ({exc}): this backup is not whole") from None
    files = manifest.get("files", {})
    for name in [MANIFEST, *files]:
        path = backup.path / name
        if not path.is_file():
            raise Failure(f"{backup.name}: {name} is missing: this backup is not whole")
        if name in files and (size := path.stat().st_size) != files[name]:
            raise Failure(f"{backup.name}: {name} has {size} bytes instead of {files[name]}: it was cut or replaced")
        if digest_of(path) != sums.get(name):
            raise Failure(f"{backup.name}: {name} is not what was written, its SHA-256 differs: it was damaged")


def remove_expired(directory: Path, kind: Kind, retention: Retention) -> list[str]:
    """Returns the names of the removed backups. The caller has just made a good one, which is the newest."""
    by_time = {backup.at: backup for backup in backups(directory, kind)}
    stay = retained(by_time.keys(), retention)
    expired = [backup for at, backup in by_time.items() if at not in stay]
    for backup in expired:
        # renamed first: a removal that is cut short must not leave half a backup under its name
        hidden = directory / f".{backup.name}.part"
        backup.path.rename(hidden)
        shutil.rmtree(hidden)
    return [backup.name for backup in expired]
