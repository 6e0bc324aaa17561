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

from erp_service.access.principals import command
from erp_service.auth.users import first_super_admin
from erp_service.company.environment import take_over
from erp_service.db.connections import wait_until_up
from erp_service.db.engine import Database
from erp_service.db.migrate import migrate
from erp_service.settings import Settings
from erp_service.standalone import demo, postgres, supervisor
from erp_service.standalone.supervisor import Command

OWNER = "owner@example.com"
GRACE_SECONDS = 15.0


class Secrets(msgspec.Struct, frozen=True):
    """Generated at the first start and read at each later one: `secrets.json` in the data directory, mode 0600."""

    jwt_secret: str
    email: str
    password: str


class DatabaseUrls(NamedTuple):
    """One for each role, `app` for commands. `revive` starts the embedded server again if it ended; None if
    ERP_DATABASE_URL names another server, which is then that of each role but the owner."""

    api: str
    worker: str
    app: str
    owner: str
    revive: Callable[[], object] | None


class CannotStart(Exception):
    """The service cannot be started on this machine; the message says why and what to do."""


def run(*, port: int, data_dir: Path, with_demo: bool, say: Callable[[str], None]) -> int:
    """Start everything and keep it running until a signal; returns the exit status. Raises CannotStart."""
    _require_free(port)
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    stop = _StopWhileStarting()
    with _database(data_dir, say) as urls:
        stop.exit_if_requested()
        credentials, is_new = _load_or_make_secrets(data_dir / "secrets.json")
        environment = _environment(data_dir, port)
        _write_env_file(data_dir / "env", environment, urls)
        asyncio.run(_prepare(urls, credentials, with_demo=with_demo, say=say))
        greeting = _Greeting(port, credentials, data_dir, is_new=is_new, say=say)

        def check() -> None:
            if urls.revive is not None:
                urls.revive()
            greeting.once_ready()

        stop.exit_if_requested()
        status = supervisor.run(_commands(urls, credentials), environment, grace=GRACE_SECONDS, say=say, check=check)
        say("Stopped.")
        return status


class _StopWhileStarting:
    """SIGTERM raises SystemExit. Python ignores an exception in a finalizer, so the request is recorded as well."""

    def __init__(self) -> None:
        self._status: int | None = None
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, _frame: FrameType | None) -> None:
        self._status = 128 + number
        raise SystemExit(self._status)

    def exit_if_requested(self) -> None:
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
        yield DatabaseUrls(given, given, given, owner, None)
        return
    say(f"Starting PostgreSQL in {data_dir / 'postgres'} ...")
    with postgres.running(data_dir / "postgres") as cluster:
        cluster.create_database("erp")
        api, worker = cluster.role_url("erp_api", "erp"), cluster.role_url("erp_worker", "erp")
        yield DatabaseUrls(api, worker, cluster.app_url("erp"), cluster.owner_url("erp"), cluster.revive)


def _load_or_make_secrets(path: Path) -> tuple[Secrets, bool]:
    """And whether they are new."""
    with contextlib.suppress(FileNotFoundError):
        try:
            return msgspec.json.decode(path.read_bytes(), type=Secrets), False
        except msgspec.MsgspecError as exc:
            raise CannotStart(f"{path} cannot be read: {exc}. Restore it, or remove it to make new secrets.") from exc
    made = Secrets(secrets.token_urlsafe(48), OWNER, secrets.token_urlsafe(12))
    # written under another name and renamed, so that a kill in between leaves no incomplete file
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(made)))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    return made, True


def _commands(urls: DatabaseUrls, credentials: Secrets) -> list[Command]:
    """API and worker. Only the first has the secret that signs tokens."""
    secret = os.environ.get("ERP_JWT_SECRET") or credentials.jwt_secret
    own = {
        "serve": {"ERP_DATABASE_URL": urls.api, "ERP_JWT_SECRET": secret},
        "worker": {"ERP_DATABASE_URL": urls.worker},
    }
    return [Command(name, [sys.executable, "-m", "erp_service", name], values) for name, values in own.items()]


def _environment(data_dir: Path, port: int) -> dict[str, str]:
    """What API and worker share: the user's variables win over our defaults, but not over the port."""
    defaults = {
        "ERP_ENVIRONMENT": "development",
        "ERP_EXPORT_STORE": f"file://{data_dir / 'exports'}",
        "ERP_DRAIN_SECONDS": "0",
        "ERP_GRACE_SECONDS": "10",
        "ERP_LOG_LEVEL": "warning",
    }
    secrets_of_one = ("ERP_DATABASE_URL", "ERP_MIGRATION_DATABASE_URL", "ERP_JWT_SECRET")
    given = {name: value for name, value in os.environ.items() if value and name not in secrets_of_one}
    return defaults | given | {"ERP_PORT": str(port)}


def _write_env_file(path: Path, environment: dict[str, str], urls: DatabaseUrls) -> None:
    """For `. .erp/env` in another terminal: `erp verify`, `erp import` and others use this database then."""
    values = {
        "ERP_DATABASE_URL": urls.app,
        "ERP_MIGRATION_DATABASE_URL": urls.owner,
        "ERP_EXPORT_STORE": environment["ERP_EXPORT_STORE"],
    }
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()))


async def _prepare(urls: DatabaseUrls, credentials: Secrets, *, with_demo: bool, say: Callable[[str], None]) -> None:
    say("Bringing the database up to date ...")
    await migrate(urls.owner)
    database = Database(Settings(database_url=urls.api), name="erp up")
    try:
        async with database.write() as db:
            for line in await take_over(db, command("erp up")):
                say(line)
        await first_super_admin(database, credentials.email, credentials.password)
        if with_demo and await demo.load_demo(urls.owner):
            await demo.load_colleague(database)
            say("Loaded demo stock: a small trading company.")
    finally:
        await database.close()


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise CannotStart(f"Port {port} is not free ({exc.strerror}): take another with --port.") from exc


class _Greeting:
    """Printed once, as soon as the service is ready: its URL, the first user, and what to do next."""

    def __init__(
        self, port: int, credentials: Secrets, data_dir: Path, *, is_new: bool, say: Callable[[str], None]
    ) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._credentials, self._data_dir, self._is_new, self._say = credentials, data_dir, is_new, say
        self._printed = False

    def once_ready(self) -> None:
        if self._printed:
            return
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(f"{self._url}/health/ready", timeout=0.5):  # noqa: S310
                self._printed = True
            self._say(self._text())

    def _text(self) -> str:
        # only at the first start, because a password should not stay in every terminal's scrollback
        password = self._credentials.password if self._is_new else f"(see {self._data_dir / 'secrets.json'})"
        return f"""
erp_service is up: {self._url}

  Console         {self._url}/console
  Documentation   {self._url}/docs   (press Authorize to sign in)
  E-mail          {self._credentials.email}
  Password        {password}

Next, in another terminal:

  .venv/bin/erp export stock_movements --url {self._url} --user {self._credentials.email} -o movements.csv

  . {self._data_dir}/env && .venv/bin/erp verify

and the five-minute tour in README.md.

Ctrl-C stops all of it. Data, files and secrets stay in {self._data_dir}.
"""
