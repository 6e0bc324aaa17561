"""The directory of backups: each a directory of its own, which has its name only once it is whole.

20261123T020000Z-dump/    database.dump  proof.json  globals.sql  manifest.json  SHA256SUMS
20261123T030000Z-base/    base.tar.gz    manifest.json  SHA256SUMS
wal-7412345678901234567/  segments of the write-ahead log of the cluster with this system identifier
.20261124T020000Z-dump.part/   one at work, or cut short: the next backup removes it
.lock                     held while one is taken
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

from .programs import Failed
from .rotation import Keep, kept
from .sealed import digest_of

Kind = Literal["dump", "base"]
KINDS: tuple[Kind, ...] = ("dump", "base")
DUMP, PROOF, GLOBALS, FILES, BASE = "database.dump", "proof.json", "globals.sql", "export-files.tar.gz", "base.tar.gz"
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
_NAME = re.compile(r"(\d{8}T\d{6}Z)-(dump|base)")
_STAMP = "%Y%m%dT%H%M%SZ"


class Busy(Failed):
    """Another backup is being taken into the same directory."""


class Backup(NamedTuple):
    """A whole backup; `at` is when it began."""

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
        """Raises Failed."""
        try:
            found: dict[str, Any] = json.loads((self.path / MANIFEST).read_text())
        except (OSError, ValueError) as exc:
            raise Failed(f"{self.name}: its {MANIFEST} cannot be read ({exc}): this backup is not whole") from None
        return found


@contextlib.contextmanager
def locked(directory: Path, name: str = ".lock") -> Iterator[None]:
    """Raises Busy. The kernel frees the lock however its holder ends."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another backup is being taken into {directory}") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def part(directory: Path, kind: Kind) -> Iterator[tuple[Path, str]]:
    """A hidden directory to write into, and the name that `publish` will give it; else nothing of it stays.

    The caller holds the lock."""
    for old in directory.glob(".*.part"):
        if _NAME.fullmatch(old.name[1:].removesuffix(".part")):
            shutil.rmtree(old)
    while (directory / (name := f"{datetime.now(UTC).strftime(_STAMP)}-{kind}")).exists():
        time.sleep(0.1)
    hidden = directory / f".{name}.part"
    hidden.mkdir(mode=0o700)
    try:
        yield hidden, name
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def complete(hidden: Path, manifest: dict[str, Any]) -> None:
    """What lies there, its lengths and digests, written down last."""
    files = sorted(hidden.iterdir())
    lengths = {file.name: file.stat().st_size for file in files}
    _write(hidden / MANIFEST, json.dumps({**manifest, "files": lengths}, indent=2) + "\n")
    lines = [f"{digest_of(file)}  {file.name}\n" for file in [*files, hidden / MANIFEST]]
    _write(hidden / SUMS, "".join(lines))


def publish(hidden: Path, name: str) -> Backup:
    """Fsync, rename, fsync: whatever is cut short has no name."""
    sync(hidden)
    hidden.rename(hidden.parent / name)
    sync(hidden.parent)
    return named(hidden.parent / name)


def _write(path: Path, text: str) -> None:
    with path.open("x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def named(path: Path) -> Backup:
    """Raises Failed for what has no name of a backup."""
    match = _NAME.fullmatch(path.name)
    if match is None or not path.is_dir():
        raise Failed(f"{path} is no backup: one is a directory such as 20261123T020000Z-dump")
    kind: Kind = "dump" if match[2] == "dump" else "base"
    return Backup(path, kind, datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC))


def backups(directory: Path, kind: Kind) -> list[Backup]:
    """Oldest first."""
    found = [named(path) for path in directory.glob(f"*-{kind}") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda backup: backup.at)


def prove(backup: Backup) -> None:
    """That each file is as it was written. Raises Failed with what is not."""
    manifest = backup.manifest()
    try:
        lines = (backup.path / SUMS).read_text().splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    except (OSError, ValueError) as exc:
        raise Failed(f"{backup.name}: its {SUMS} cannot be read ({exc}): this backup is not whole") from None
    files = manifest.get("files", {})
    for name in [MANIFEST, *files]:
        path = backup.path / name
        if not path.is_file():
            raise Failed(f"{backup.name}: {name} is missing: this backup is not whole")
        if name in files and (size := path.stat().st_size) != files[name]:
            raise Failed(f"{backup.name}: {name} has {size} bytes instead of {files[name]}: it was cut or replaced")
        if digest_of(path) != sums.get(name):
            raise Failed(f"{backup.name}: {name} is not what was written, its SHA-256 differs: it was damaged")


def rotate(directory: Path, kind: Kind, keep: Keep) -> list[str]:
    """Remove what need not stay; returns the names. The caller has just made a good one, which is the newest."""
    found = {backup.at: backup for backup in backups(directory, kind)}
    stay = kept(found.keys(), keep)
    gone = [backup for at, backup in found.items() if at not in stay]
    for backup in gone:
        # out of sight first: a removal that is cut short must not leave half of one under its name
        hidden = directory / f".{backup.name}.part"
        backup.path.rename(hidden)
        shutil.rmtree(hidden)
    return [backup.name for backup in gone]
