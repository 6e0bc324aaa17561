"""The options that several commands share, and how each run is told to people, to monitoring and to the shell."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .place import Busy
from .programs import Failed, Server, server_of
from .sealed import Keys

_KEY_BYTES = 65536

FAILED, BUSY = 1, 75
"""Exit statuses; 2 is a wrong command line, as everywhere. 75 is sysexits.h's: try again later."""


def add_database(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--database",
        metavar="URL",
        help=f"{what}; else ERP_MIGRATION_DATABASE_URL or ERP_DATABASE_URL (also ..._FILE)",
    )


def add_programs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pg-bin", type=Path, metavar="DIR", help="where PostgreSQL's programs are, if not on PATH")


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
    """For `-` a file that is in memory only, and gone when we are: into a container the key comes this way."""
    if text != "-":
        return Path(text)
    descriptor = os.memfd_create("identity")
    os.write(descriptor, sys.stdin.buffer.read(_KEY_BYTES))
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _path(variable: str) -> Path | None:
    return Path(value) if (value := os.environ.get(variable)) else None


def database_address(given: argparse.Namespace) -> str:
    """Raises Failed."""
    if given.database:
        return str(given.database)
    for name in ("ERP_MIGRATION_DATABASE_URL", "ERP_DATABASE_URL"):
        if path := os.environ.get(f"{name}_FILE"):
            return Path(path).read_text().strip()
        if value := os.environ.get(name):
            return value
    raise Failed("no database is named: give --database, or set ERP_MIGRATION_DATABASE_URL")


def database(given: argparse.Namespace) -> Server:
    """Raises Failed."""
    return server_of(database_address(given), given.pg_bin)


def keys(given: argparse.Namespace) -> Keys:
    """Raises Failed for a file that is not there: nothing must be written in the clear by mistake."""
    found = Keys(getattr(given, "recipients", None), given.identity)
    for file in found:
        if file is not None and not file.is_file():
            raise Failed(f"there is no file {file} with keys")
    return found


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def tell(result: dict[str, Any]) -> None:
    """One line of JSON on standard output, for monitoring."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def told(name: str, work: Callable[[], dict[str, Any]], after: Callable[[dict[str, Any]], None] | None = None) -> int:
    """Run it, tell its result, and return the exit status; `after` is told too, also of what failed."""
    began = time.monotonic()
    status = 0
    try:
        result: dict[str, Any] = {"ok": True, **work()}
    except (Failed, OSError) as exc:
        status = BUSY if isinstance(exc, Busy) else FAILED
        reason = (
            str(exc)
            if isinstance(exc, Failed)
            else f"{exc.strerror or exc}" + (f": {exc.filename}" if exc.filename else "")
        )
        say(f"{name}: {reason}")
        result = {"ok": False, "error": reason}
    result["seconds"] = round(time.monotonic() - began, 3)
    if after is not None:
        after(result)
    tell(result)
    return status
