"""PostgreSQL's own programs and age, run with secrets in their environment: what stands in a command line, all see."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

PIECE = 1024 * 1024

# libpq's words in an address, and its variables for them
_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "application_name": "PGAPPNAME",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}


class Failed(Exception):
    """It could not be done; the message says what and why in a sentence for whoever is on duty at night."""


class Server(NamedTuple):
    """A database as libpq's variables name it, and the directory of the programs that fit it (None: on PATH)."""

    variables: Mapping[str, str]
    programs: Path | None

    @property
    def database(self) -> str:
        return self.variables.get("PGDATABASE", "postgres")

    def environment(self) -> dict[str, str]:
        """Ours without any PG variable: a stray PGHOST must not lead a restore elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**kept, "PGAPPNAME": "erp backup", "PGCONNECT_TIMEOUT": "15", "LC_ALL": "C", **self.variables}


def server_of(address: str, programs: Path | None) -> Server:
    """`postgresql://user:password@host:port/db`, also with `?host=/socket/dir`. Raises Failed."""
    parts = urlsplit(address)
    if parts.scheme not in ("postgresql", "postgres"):
        raise Failed("the database's address must look like postgresql://user:password@host:port/db")
    words = {
        "host": unquote(parts.hostname or ""),
        "port": str(parts.port or ""),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": unquote(parts.path.removeprefix("/")),
        **dict(parse_qsl(parts.query)),
    }
    if unknown := words.keys() - _VARIABLES.keys():
        raise Failed(f"the database's address holds what is not known here: {', '.join(sorted(unknown))}")
    return Server({_VARIABLES[word]: value for word, value in words.items() if value}, programs)


def program(name: str, directory: Path | None = None) -> str:
    """Its whole path. Raises Failed with what to install."""
    if found := shutil.which(name, path=None if directory is None else str(directory)):
        return found
    if name == "age":
        raise Failed("age is not installed: apt-get install age (https://age-encryption.org)")
    raise Failed(f"{name} was not found: install PostgreSQL's programs of the server's version, or give --pg-bin")


def command(server: Server, name: str, *arguments: str) -> list[str]:
    return [program(name, server.programs), *arguments]


def run(server: Server, name: str, *arguments: str, given: str | None = None) -> str:
    """What the program wrote to standard output. Raises Failed with the end of what it complained about."""
    ran = subprocess.run(
        command(server, name, *arguments),
        env=server.environment(),
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise Failed(complaint(name, ran.stderr, ran.returncode))
    return ran.stdout


def query(server: Server, sql: str) -> str:
    """The first column of the first row, without the line's end."""
    return run(server, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-", given=sql).strip()


def complaint(name: str, said: str, status: int) -> str:
    lines = [line for line in said.strip().splitlines() if line.strip()][-6:]
    return f"{name} failed, status {status}: " + ("; ".join(lines) if lines else "it did not say why")


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
