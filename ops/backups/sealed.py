"""Files of a backup: encrypted by age if there are recipients, digested on their way, read back from the disk."""

import contextlib
import hashlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from .programs import Failed, complaint, pieces, program

SUFFIX = ".age"


class Keys(NamedTuple):
    """`recipients` is a file of public keys (age -R), `identity` one with a secret key (age -i)."""

    recipients: Path | None = None
    identity: Path | None = None


class Digested:
    """A file that is written, with its length and SHA-256."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes, self.sha256 = path, 0, ""


class _Writer:
    """Behind it stands the file, or age and then the file; the digest is of what goes to the disk."""

    def __init__(self, path: Path, keys: Keys) -> None:
        self.made = Digested(path)
        self._digest = hashlib.sha256()
        self._file = path.open("xb")
        self._fault: BaseException | None = None
        self._age: subprocess.Popen[bytes] | None = None
        if keys.recipients is not None:
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 closed with the writer
            self._age = subprocess.Popen(
                [program("age"), "--encrypt", "-R", str(keys.recipients)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
            )
            self._pump = threading.Thread(target=self._drain, args=(self._age.stdout,), daemon=True)
            self._pump.start()

    def write(self, data: Any) -> int:
        if self._age is None:
            self._keep(data)
        else:
            self._feed(data)
        return len(data)

    def flush(self) -> None:
        """Asked for by gzip and tarfile; what counts is the fsync at the end."""

    def finish(self) -> Digested:
        if self._age is not None:
            self._feed(None)
            self._pump.join()
            self._raise()
            if status := self._age.wait():
                raise self._refused(status)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.made.sha256 = self._digest.hexdigest()
        return self.made

    def close(self) -> None:
        if self._age is not None:
            if self._age.poll() is None:
                self._age.kill()
            self._pump.join()
            self._age.wait()
            for pipe in (self._age.stdin, self._age.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            self._complaints.close()
        self._file.close()

    def _keep(self, data: Any) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.made.bytes += len(data)

    def _feed(self, data: Any | None) -> None:
        if self._age is None or self._age.stdin is None:
            return
        try:
            if data is None:
                self._age.stdin.close()
            else:
                self._age.stdin.write(data)
        except BrokenPipeError:
            # either age ended by itself, or the disk behind it is full, which ended it
            self._pump.join()
            self._raise()
            raise self._refused(self._age.wait()) from None

    def _drain(self, stdout: IO[bytes]) -> None:
        try:
            for piece in pieces(stdout):
                self._keep(piece)
        except BaseException as exc:  # noqa: BLE001 handed on to the thread that writes
            self._fault = exc
            stdout.close()

    def _raise(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _refused(self, status: int) -> Failed:
        self._complaints.seek(0)
        return Failed(complaint("age", self._complaints.read().decode(errors="replace"), status))


@contextlib.contextmanager
def writing(directory: Path, name: str, keys: Keys) -> Iterator[_Writer]:
    """A new file, synced and read back when left in peace. Raises Failed, OSError (a full disk among them)."""
    path = directory / (name + (SUFFIX if keys.recipients is not None else ""))
    writer = _Writer(path, keys)
    try:
        yield writer
        made = writer.finish()
    finally:
        writer.close()
    if digest_of(path, fresh=True) != made.sha256:
        raise Failed(f"{path.name} does not read back as it was written: the disk or the share cannot be trusted")


def digest_of(path: Path, *, fresh: bool = False) -> str:
    """The SHA-256; `fresh` asks the system to read from the disk and not from its memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if fresh and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for piece in pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def stored(directory: Path, name: str) -> Path:
    """The file of this name, encrypted or not."""
    sealed = directory / (name + SUFFIX)
    return sealed if sealed.exists() else directory / name


@contextlib.contextmanager
def reading(path: Path, keys: Keys) -> Iterator[IO[bytes]]:
    """The clear bytes. Raises Failed for a missing or wrong key, and when left if not all could be decrypted."""
    if path.suffix != SUFFIX:
        with path.open("rb") as file:
            yield file
        return
    if keys.identity is None:
        raise Failed(f"{path.name} is encrypted: give the secret key's file with --identity")
    with (
        path.open("rb") as file,
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            [program("age"), "--decrypt", "-i", str(keys.identity)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=complaints,
        ) as age,
    ):
        if age.stdout is None:
            raise AssertionError
        try:
            yield age.stdout
            # all of it: what follows unread could be where the fault is
            for _ in pieces(age.stdout):
                pass
        finally:
            age.stdout.close()
            status = age.wait()
            complaints.seek(0)
            said = complaints.read().decode(errors="replace")
            if "no identity matched" in said:
                raise Failed(f"the key in {keys.identity} is not one that {path.name} was encrypted for")
            # a negative one: whoever read has turned away, and says why by itself
            if status > 0:
                raise Failed(f"{path.name} cannot be decrypted: " + complaint("age", said, status))
