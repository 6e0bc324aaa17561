"""The files of a backup: encrypted by age if there are recipients, digested while they are written, read back from the
disk."""

import contextlib
import gzip
import hashlib
import os
import subprocess
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from .programs import Failure, chunks, failure_message, program

SUFFIX = ".age"


class Keys(NamedTuple):
    """`recipients` is a file of public keys (age -R), `identity` a file with a secret key (age -i)."""

    recipients: Path | None = None
    identity: Path | None = None


class Writer:
    """Writes to a file, through age if there are recipients. The digest is of the bytes on the disk."""

    def __init__(self, path: Path, keys: Keys) -> None:
        self._digest = hashlib.sha256()
        self._file = path.open("xb")
        self._error: BaseException | None = None
        self._age: subprocess.Popen[bytes] | None = None
        if keys.recipients is not None:
            self._age_errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the writer
            self._age = subprocess.Popen(
                [program("age"), "--encrypt", "-R", str(keys.recipients)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._age_errors,
            )
            self._reader = threading.Thread(target=self._read_from_age, args=(self._age.stdout,), daemon=True)
            self._reader.start()

    def write(self, data: Any) -> int:
        if self._age is None:
            self._store(data)
        else:
            self._write_to_age(data)
        return len(data)

    def flush(self) -> None:
        """gzip and tarfile call it; what counts is the fsync at the end."""

    def finish(self) -> str:
        """Fsyncs; returns the SHA-256."""
        if self._age is not None:
            self._write_to_age(None)
            self._reader.join()
            self._raise_error()
            if status := self._age.wait():
                raise self._age_failure(status)
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def close(self) -> None:
        if self._age is not None:
            if self._age.poll() is None:
                self._age.kill()
            self._reader.join()
            self._age.wait()
            for pipe in (self._age.stdin, self._age.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            self._age_errors.close()
        self._file.close()

    def _store(self, data: Any) -> None:
        self._file.write(data)
        self._digest.update(data)

    def _write_to_age(self, data: Any | None) -> None:
        """None closes age's standard input."""
        if self._age is None or self._age.stdin is None:
            return
        try:
            if data is None:
                self._age.stdin.close()
            else:
                self._age.stdin.write(data)
        except BrokenPipeError:
            # either age ended by itself, or the disk is full and we closed its standard output, which ended it
            self._reader.join()
            self._raise_error()
            raise self._age_failure(self._age.wait()) from None

    def _read_from_age(self, stdout: IO[bytes]) -> None:
        try:
            for chunk in chunks(stdout):
                self._store(chunk)
        except BaseException as exc:  # noqa: BLE001 raised again in the thread that writes
            self._error = exc
            stdout.close()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _age_failure(self, status: int) -> Failure:
        self._age_errors.seek(0)
        return Failure(failure_message("age", self._age_errors.read().decode(errors="replace"), status))


@contextlib.contextmanager
def writing(directory: Path, name: str, keys: Keys) -> Iterator[Writer]:
    """A new file, fsynced and read back at the end. Raises Failure, OSError (a full disk among them)."""
    path = directory / (name + (SUFFIX if keys.recipients is not None else ""))
    writer = Writer(path, keys)
    try:
        yield writer
        sha256 = writer.finish()
    finally:
        writer.close()
    if digest_of(path, from_disk=True) != sha256:
        raise Failure(f"{path.name} does not read back as it was written: the disk or the share cannot be trusted")


@contextlib.contextmanager
def writing_tar(directory: Path, name: str, keys: Keys, *, level: int) -> Iterator[tarfile.TarFile]:
    """A new .tar.gz, as `writing` makes it; `level` is gzip's."""
    with (
        writing(directory, name, keys) as out,
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=level, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as tar,
    ):
        yield tar


def digest_of(path: Path, *, from_disk: bool = False) -> str:
    """The SHA-256; `from_disk` asks the system not to answer from its cache."""
    with path.open("rb") as file:
        if from_disk and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_path(directory: Path, name: str) -> Path:
    """The path of the file of this name, encrypted or not."""
    encrypted = directory / (name + SUFFIX)
    return encrypted if encrypted.exists() else directory / name


@contextlib.contextmanager
def reading(path: Path, keys: Keys) -> Iterator[IO[bytes]]:
    """The decrypted bytes. Raises Failure for a missing or wrong key, and at the end if not all could be decrypted."""
    if path.suffix != SUFFIX:
        with path.open("rb") as file:
            yield file
        return
    if keys.identity is None:
        raise Failure(f"{path.name} is encrypted: give the secret key's file with --identity")
    with (
        path.open("rb") as file,
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [program("age"), "--decrypt", "-i", str(keys.identity)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as age,
    ):
        if age.stdout is None:
            raise AssertionError
        try:
            yield age.stdout
            # age authenticates chunk by chunk: the fault may be in the part that the caller did not read
            for _ in chunks(age.stdout):
                pass
        finally:
            age.stdout.close()
            status = age.wait()
            errors.seek(0)
            text = errors.read().decode(errors="replace")
            if "no identity matched" in text:
                raise Failure(f"the key in {keys.identity} is not one that {path.name} was encrypted for")
            # a negative status is SIGPIPE: the caller stopped reading, for a reason that it raises itself
            if status > 0:
                raise Failure(f"{path.name} cannot be decrypted: " + failure_message("age", text, status))


@contextlib.contextmanager
def reading_tar(directory: Path, name: str, keys: Keys) -> Iterator[tarfile.TarFile]:
    """A .tar.gz of a backup, as a stream. Raises Failure."""
    try:
        with (
            reading(stored_path(directory, name), keys) as file,
            gzip.GzipFile(fileobj=file) as uncompressed,
            tarfile.open(fileobj=uncompressed, mode="r|") as tar,
        ):
            yield tar
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, ValueError) as exc:
        raise Failure(f"{directory.name}: {name} cannot be unpacked: {exc}") from None
