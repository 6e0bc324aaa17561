"""Runs PostgreSQL's own programs and age. Secrets go by environment: a command line is visible to every user."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from .addresses import hosts_of, variables_of

CHUNK_BYTES = 1024 * 1024

# its parameters have no environment variables; an address cannot name a service, so it overrides nothing
_SERVICE = {"PGSERVICEFILE": str(Path(__file__).with_name("pg_service.conf")), "PGSERVICE": "erp_backup"}


class Failure(Exception):
    """The command cannot do its work. The message says what failed and why, in a sentence for the person on duty."""


class Server(NamedTuple):
    """A database, as libpq's variables, and the directory of the programs of its version (None: search PATH)."""

    variables: Mapping[str, str]
    programs: Path | None

    @property
    def database(self) -> str:
        return self.variables.get("PGDATABASE", "postgres")

    @property
    def hosts(self) -> list[str]:
        """For people: `db1`, `db2:5433`."""
        return list(hosts_of(self.variables))

    def environment(self) -> dict[str, str]:
        """Our environment without its PG variables: a stray PGHOST must not send a restore to another server."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        ours = {"PGAPPNAME": "erp backup", "PGCONNECT_TIMEOUT": "15", "LC_ALL": "C"}
        return {**own, **ours, **_SERVICE, **self.variables}


def server_of(address: str, programs: Path | None) -> Server:
    """A server, or of several hosts the one that leads at each connection. Raises Failure."""
    try:
        return Server(variables_of(address), programs)
    except ValueError as exc:
        raise Failure(str(exc)) from None


def program(name: str, directory: Path | None = None) -> str:
    """The full path of a program. Raises Failure, which says what to install."""
    if path := shutil.which(name, path=None if directory is None else str(directory)):
        return path
    if name == "age":
        raise Failure("age is not installed: apt-get install age (https://age-encryption.org)")
    raise Failure(f"{name} was not found: install PostgreSQL's programs of the server's version, or give --pg-bin")


def command(server: Server, name: str, *arguments: str) -> list[str]:
    return [program(name, server.programs), *arguments]


def run(server: Server, name: str, *arguments: str, stdin: str | None = None, seconds: float | None = None) -> str:
    """Returns the program's standard output. Raises Failure with the end of its standard error, or if it has not ended
    after `seconds`."""
    try:
        done = subprocess.run(
            command(server, name, *arguments),
            env=server.environment(),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"{name} did not end within {seconds:.0f} s") from None
    if done.returncode:
        raise Failure(failure_message(name, done.stderr, done.returncode, server.hosts))
    return done.stdout


@contextlib.contextmanager
def output_of(server: Server, name: str, *arguments: str) -> Iterator[IO[bytes]]:
    """The standard output of a program, to be read to its end. Raises Failure at the end if the program failed."""
    with _process(server, name, *arguments, stdout=subprocess.PIPE) as process:
        if process.stdout is None:
            raise AssertionError
        yield process.stdout


@contextlib.contextmanager
def input_to(server: Server, name: str, *arguments: str) -> Iterator[Callable[[bytes], None]]:
    """A function that writes to a program's standard input. Raises Failure at the end if the program failed: only then,
    so the function ignores a pipe that the program has closed."""
    with _process(server, name, *arguments, stdin=subprocess.PIPE) as process:
        pipe, broken = process.stdin, False
        if pipe is None:
            raise AssertionError

        def write(chunk: bytes) -> None:
            nonlocal broken
            try:
                if not broken:
                    pipe.write(chunk)
            except BrokenPipeError:
                broken = True

        yield write
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


@contextlib.contextmanager
def _process(
    server: Server, name: str, *arguments: str, stdin: int | None = None, stdout: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Waits for the program's end and checks its status. An exception of the caller kills it instead."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command(server, name, *arguments), env=server.environment(), stdin=stdin, stdout=stdout, stderr=errors
        )
        try:
            yield process
            if status := process.wait():
                errors.seek(0)
                raise Failure(failure_message(name, errors.read().decode(errors="replace"), status, server.hosts))
        finally:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()
            process.wait()


def query(server: Server, sql: str) -> str:
    """The first column of the first row, without the newline. Raises Failure."""
    return run(server, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-", stdin=sql).strip()


def wait_until_available(server: Server, seconds: float) -> None:
    """Returns also after so many seconds: then the next command says what is wrong."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(Failure):
            query(server, "select 1;")
            return
        time.sleep(1)


def system_identifier(server: Server) -> str:
    """The number that initdb gave to the cluster."""
    return query(server, "select system_identifier from pg_control_system();")


def wal_segment_bytes(server: Server) -> int:
    return int(query(server, "select setting::bigint from pg_settings where name = 'wal_segment_size';"))


def failure_message(name: str, errors: str, status: int, hosts: Sequence[str] = ()) -> str:
    """`hosts` are named if there are several: not every message of a program says which of them it met."""
    lines = [line for line in errors.strip().splitlines() if line.strip()][-6:]
    where = f" (hosts: {', '.join(hosts)})" if len(hosts) > 1 else ""
    return f"{name} failed, status {status}{where}: " + ("; ".join(lines) if lines else "it did not say why")


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
