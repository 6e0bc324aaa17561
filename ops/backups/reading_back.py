"""Read a whole backup to its end, as a restore would, without a server."""

import gzip
import hashlib
import json
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

from .place import BASE, DUMP, PROOF, Backup, prove
from .programs import Failed, complaint, pieces, program
from .sealed import Keys, reading, stored


def check(backup: Backup, keys: Keys, programs: Path | None) -> str:
    """`content` if all of it was read and is right, `digests` if it is encrypted for a key that is not at hand.

    Raises Failed."""
    prove(backup)
    if backup.manifest()["encrypted"] and keys.identity is None:
        return "digests"
    if backup.kind == "dump":
        read_json(backup, keys, PROOF)
        _dump(backup, keys, programs)
    else:
        _base(backup, keys)
    return "content"


def read_json(backup: Backup, keys: Keys, name: str) -> dict[str, Any]:
    with reading(stored(backup.path, name), keys) as file:
        found: dict[str, Any] = json.loads(file.read())
    return found


def _dump(backup: Backup, keys: Keys, programs: Path | None) -> None:
    with tempfile.TemporaryFile() as said, reading(stored(backup.path, DUMP), keys) as file:
        command = [program("pg_restore", programs), "--format=custom", "--file=/dev/null"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said) as restoring:
            if restoring.stdin is None:
                raise AssertionError
            try:
                for piece in pieces(file):
                    restoring.stdin.write(piece)
                restoring.stdin.close()
            except BrokenPipeError:
                pass
        if restoring.returncode:
            said.seek(0)
            raise Failed(f"{backup.name}: " + complaint("pg_restore", said.read().decode(), restoring.returncode))


def _base(backup: Backup, keys: Keys) -> None:
    """Each file against the server's own manifest, which stands first in the archive."""
    try:
        with (
            reading(stored(backup.path, BASE), keys) as file,
            gzip.GzipFile(fileobj=file) as packed,
            tarfile.open(fileobj=packed, mode="r|") as tar,
        ):
            expected: dict[str, dict[str, Any]] | None = None
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
                    raise Failed(f"{backup.name}: {member.name} is not what the server had")
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as exc:
        raise Failed(f"{backup.name}: {BASE} cannot be unpacked: {exc}") from None
    if expected is None:
        raise Failed(f"{backup.name}: {BASE} holds no manifest of the server's")
    if expected:
        raise Failed(f"{backup.name}: {len(expected)} of the server's files are missing, {min(expected)} among them")


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces(file):
        digest.update(piece)
    return digest.hexdigest()
