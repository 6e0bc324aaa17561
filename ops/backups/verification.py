"""Reads a backup to its end, as a restore would, but without a server."""

import hashlib
import json
from pathlib import Path
from typing import IO, Any

from .catalogue import BASE, COUNTS, DUMP, Backup, verify_digests
from .encryption import Keys, reading, reading_tar, stored_path
from .programs import Failure, Server, chunks, input_to


def verify(backup: Backup, keys: Keys, programs: Path | None) -> str:
    """Returns `content` if all of it was read and is right, `digests` if it is encrypted and there is no key here.

    Raises Failure."""
    verify_digests(backup)
    if backup.manifest()["encrypted"] and keys.identity is None:
        return "digests"
    if backup.kind == "dump":
        read_json(backup, keys, COUNTS)
        pg_restore(backup, keys, Server({}, programs), "--file=/dev/null")
    else:
        _verify_base(backup, keys)
    return "content"


def require_content(backup: Backup, keys: Keys, programs: Path | None) -> None:
    """Raises Failure also if there is no key: what is restored must have been read to its end."""
    if verify(backup, keys, programs) != "content":
        raise Failure(f"{backup.name} is encrypted: give the secret key's file with --identity")


def read_json(backup: Backup, keys: Keys, name: str) -> dict[str, Any]:
    with reading(stored_path(backup.path, name), keys) as file:
        content: dict[str, Any] = json.loads(file.read())
    return content


def pg_restore(backup: Backup, keys: Keys, server: Server, *arguments: str) -> None:
    """Runs pg_restore with the dump as its standard input. Raises Failure."""
    with (
        reading(stored_path(backup.path, DUMP), keys) as file,
        input_to(server, "pg_restore", "--format=custom", *arguments) as write,
    ):
        for chunk in chunks(file):
            write(chunk)


def _verify_base(backup: Backup, keys: Keys) -> None:
    """Compares each file with the server's own manifest, which is the first in the archive."""
    expected: dict[str, dict[str, Any]] | None = None
    with reading_tar(backup.path, BASE, keys) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            if member.name == "backup_manifest":
                expected = {entry["Path"]: entry for entry in json.load(content)["Files"]}
            elif (
                expected is not None
                and (entry := expected.pop(member.name, None)) is not None
                and _sha256(content) != entry["Checksum"]
            ):
                raise Failure(f"{backup.name}: {member.name} is not what the server had")
    if expected is None:
        raise Failure(f"{backup.name}: {BASE} holds no manifest of the server's")
    if expected:
        raise Failure(f"{backup.name}: {len(expected)} of the server's files are missing, {min(expected)} among them")


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks(file):
        digest.update(chunk)
    return digest.hexdigest()
