"""The options that several commands share, and the report of a run: to people, to monitoring and to the shell."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .catalogue import Busy
from .encryption import Keys
from .programs import Failure, Server, server_of

_KEY_BYTES = 65536

FAILED, BUSY = 1, 75
"""Exit statuses; 2 is a wrong command line. 75 is EX_TEMPFAIL of sysexits.h: try again later."""


def add_database(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument(
        "--database",
        metavar="URL",
        help=f"{meaning}; else ERP_MIGRATION_DATABASE_URL or ERP_DATABASE_URL (also ..._FILE)",
    )


def add_programs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pg-bin", type=Path, metavar="DIR", help="the directory of PostgreSQL's programs, if not on PATH"
    )


def add_identity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--identity",
        type=_identity,
        metavar="FILE",
        default=_path("ERP_BACKUP_IDENTITY_FILE"),
        help="the secret key (age-keygen writes it) of an encrypted backup, - to read it from standard input;"
        " else ERP_BACKUP_IDENTITY_FILE",
    )


def add_recipients(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipients",
        type=Path,
        metavar="FILE",
        default=_path("ERP_BACKUP_RECIPIENTS_FILE"),
        help="encrypt for the public keys in it, one a line: age1... or ssh-...; else ERP_BACKUP_RECIPIENTS_FILE",
    )


def _identity(text: str) -> Path:
    """For `-` a file in memory, which ends with this process: so a key gets into a container without a disk."""
    if text != "-":
        return Path(text)
    descriptor = os.memfd_create("identity")
    os.write(descriptor, sys.stdin.buffer.read(_KEY_BYTES))
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _path(variable: str) -> Path | None:
    return Path(value) if (value := os.environ.get(variable)) else None


def database_address(options: argparse.Namespace) -> str:
    """Raises Failure."""
    if options.database:
        return str(options.database)
    for name in ("ERP_MIGRATION_DATABASE_URL", "ERP_DATABASE_URL"):
        if (value := variable(name)) is not None:
            return value
    raise Failure("no database is named: give --database, or set ERP_MIGRATION_DATABASE_URL")


def variable(name: str) -> str | None:
    """The environment variable, or what is in the file that NAME_FILE names. Raises OSError."""
    if path := os.environ.get(f"{name}_FILE"):
        return Path(path).read_text().strip()
    return os.environ.get(name) or None


def database(options: argparse.Namespace) -> Server:
    """Raises Failure."""
    return server_of(database_address(options), options.pg_bin)


def keys(options: argparse.Namespace) -> Keys:
    """Raises Failure if a file is missing: a mistake in its name must not give an unencrypted backup."""
    key_files = Keys(getattr(options, "recipients", None), options.identity)
    for file in key_files:
        if file is not None and not file.is_file():
            raise Failure(f"there is no file {file} with keys")
    return key_files


def log(text: str) -> None:
    """To people, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def report(result: dict[str, Any]) -> None:
    """To monitoring: one line of JSON on standard output."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


class Steps:
    """The seconds of each step of a restore."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 3)
        log(f"{self.seconds[name] / 60:7.2f} min  {name}")


def run_reported(
    name: str, action: Callable[[], dict[str, Any]], after: Callable[[dict[str, Any]], None] | None = None
) -> int:
    """Runs the action, reports its result and returns the exit status; `after` gets the result also of a failure."""
    began = time.monotonic()
    status = 0
    try:
        result: dict[str, Any] = {"ok": True, **action()}
    except (Failure, OSError) as exc:
        status = BUSY if isinstance(exc, Busy) else FAILED
        reason = (
            str(exc)
            if isinstance(exc, Failure)
            else f"{exc.strerror or exc}" + (f": {exc.filename}" if exc.filename else "")
        )
        log(f"{name}: {reason}")
        result = {"ok": False, "error": reason}
    result["seconds"] = round(time.monotonic() - began, 3)
    if after is not None:
        after(result)
    report(result)
    return status
