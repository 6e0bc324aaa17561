"""`erp up`: everything on one machine, in development mode, in the foreground."""

import asyncio
import contextlib
import os
import secrets
import shlex
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec

from erp_service.auth.users import first_super_admin
from erp_service.db import migrate as schema
from erp_service.db.connections import wait_until_up
from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.standalone import demo, postgres, supervisor
from erp_service.standalone.supervisor import Command

OWNER = "owner@example.com"
GRACE_SECONDS = 15.0


class Kept(msgspec.Struct, frozen=True):
    """What the first start makes up and every later one needs; in the data directory, mode 0600."""

    jwt_secret: str
    email: str
    password: str


class DatabaseUrls(NamedTuple):
    """`tend` keeps the embedded server up; None where a given one is used."""

    app: str
    owner: str
    tend: Callable[[], object] | None


class CannotStart(Exception):
    """The service cannot be started here; the message says why and what to do."""


def run(*, port: int, data_dir: Path, with_demo: bool, say: Callable[[str], None]) -> int:
    """Bring all of it up and keep it up until a signal; returns the exit status. Raises CannotStart."""
    _demand_free(port)
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    stop = _StopWhileStarting()
    with _database(data_dir, say) as addresses:
        stop.now_if_told()
        kept, is_new = _kept(data_dir)
        environment = _environment(addresses, kept, data_dir, port)
        _note_addresses(data_dir, environment, addresses)
        asyncio.run(_prepare(environment, addresses.owner, kept, with_demo=with_demo, say=say))
        greeting = _Greeting(port, kept, data_dir, is_new=is_new, say=say)

        def tend() -> None:
            if addresses.tend is not None:
                addresses.tend()
            greeting.once_ready()

        stop.now_if_told()
        commands = [Command(name, [sys.executable, "-m", "erp_service", name]) for name in ("serve", "worker")]
        status = supervisor.run(commands, environment, grace=GRACE_SECONDS, say=say, tend=tend)
        say("Stopped.")
        return status


class _StopWhileStarting:
    """SIGTERM unwinds like SystemExit. Raised in a finalizer, Python swallows that, so it is remembered as well."""

    def __init__(self) -> None:
        self._status: int | None = None
        signal.signal(signal.SIGTERM, self._told)

    def _told(self, number: int, _frame: FrameType | None) -> None:
        self._status = 128 + number
        raise SystemExit(self._status)

    def now_if_told(self) -> None:
        if self._status is not None:
            raise SystemExit(self._status)


@contextlib.contextmanager
def _database(data_dir: Path, say: Callable[[str], None]) -> Iterator[DatabaseUrls]:
    if given := os.environ.get("ERP_DATABASE_URL"):
        owner = os.environ.get("ERP_MIGRATION_DATABASE_URL") or given
        say("Waiting for the database at ERP_DATABASE_URL ...")
        try:
            asyncio.run(wait_until_up(owner, seconds=300))
        except OSError as exc:
            raise CannotStart(f"The database at ERP_DATABASE_URL does not answer: {exc}") from exc
        yield DatabaseUrls(given, owner, None)
        return
    say(f"Starting PostgreSQL in {data_dir / 'postgres'} ...")
    with postgres.running(data_dir / "postgres") as cluster:
        cluster.create_database("erp")
        yield DatabaseUrls(cluster.app_url("erp"), cluster.owner_url("erp"), cluster.revive)


def _kept(data_dir: Path) -> tuple[Kept, bool]:
    path = data_dir / "secrets.json"
    with contextlib.suppress(FileNotFoundError):
        try:
            return msgspec.json.decode(path.read_bytes(), type=Kept), False
        except msgspec.MsgspecError as exc:
            raise CannotStart(f"{path} cannot be read: {exc}. Restore it, or remove it to make new secrets.") from exc
    made = Kept(secrets.token_urlsafe(48), OWNER, secrets.token_urlsafe(12))
    # written beside and renamed: a kill in between leaves no half of it
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(made)))
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    return made, True


def _environment(addresses: DatabaseUrls, kept: Kept, data_dir: Path, port: int) -> dict[str, str]:
    """What the user has set counts; the rest is filled in."""
    here = {
        "ERP_ENVIRONMENT": "development",
        "ERP_JWT_SECRET": kept.jwt_secret,
        "ERP_EXPORT_STORE": f"file://{data_dir / 'exports'}",
        "ERP_DRAIN_SECONDS": "0",
        "ERP_GRACE_SECONDS": "10",
        "ERP_LOG_LEVEL": "warning",
    }
    fixed = {"ERP_DATABASE_URL": addresses.app, "ERP_PORT": str(port)}
    return here | {name: value for name, value in os.environ.items() if value} | fixed


def _note_addresses(data_dir: Path, environment: dict[str, str], addresses: DatabaseUrls) -> None:
    """For `. .erp/env` in another terminal: there `erp verify`, `erp import` and the like find this database."""
    values = {
        "ERP_DATABASE_URL": addresses.app,
        "ERP_MIGRATION_DATABASE_URL": addresses.owner,
        "ERP_EXPORT_STORE": environment["ERP_EXPORT_STORE"],
    }
    path = data_dir / "env"
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()))


async def _prepare(
    environment: dict[str, str], owner: str, kept: Kept, *, with_demo: bool, say: Callable[[str], None]
) -> None:
    say("Bringing the database up to date ...")
    await schema.migrate(owner)
    database = Database(Settings(database_url=environment["ERP_DATABASE_URL"]), name="erp up")
    try:
        await first_super_admin(database, kept.email, kept.password)
        if with_demo and await demo.load_demo(environment["ERP_DATABASE_URL"]):
            say("Loaded demo stock: a small trading company.")
    finally:
        await database.close()


def _demand_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise CannotStart(f"Port {port} is not free ({exc.strerror}): take another with --port.") from exc


class _Greeting:
    """Says once, when the service answers, where it is and what to do next."""

    def __init__(self, port: int, kept: Kept, data_dir: Path, *, is_new: bool, say: Callable[[str], None]) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._kept, self._data_dir, self._is_new, self._say = kept, data_dir, is_new, say
        self._said = False

    def once_ready(self) -> None:
        if self._said:
            return
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(f"{self._url}/health/ready", timeout=0.5):  # noqa: S310
                self._said = True
            self._say(self._text())

    def _text(self) -> str:
        # printed once only: a terminal's scrollback is no place for a password
        password = self._kept.password if self._is_new else f"(see {self._data_dir / 'secrets.json'})"
        return f"""
erp_service is up: {self._url}

  Documentation   {self._url}/docs   (press Authorize to sign in)
  E-mail          {self._kept.email}
  Password        {password}

Next, in another terminal:

  .venv/bin/erp export stock_movements --url {self._url} --user {self._kept.email} -o movements.csv

  . {self._data_dir}/env && .venv/bin/erp verify

and the five-minute tour in README.md.

Ctrl-C stops all of it. Data, files and secrets stay in {self._data_dir}.
"""
