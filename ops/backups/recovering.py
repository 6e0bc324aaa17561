"""Bring a base backup and its log back as a cluster, up to a moment."""

import contextlib
import gzip
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from . import reading_back, wal
from .place import BASE, Backup, backups, named
from .programs import Failed, Server, program, query, run
from .restoring import Steps
from .sealed import Keys, reading, stored

_LAID_OUT = "restored_wal"
_LOG = "restore.log"
START_SECONDS = 24 * 3600.0


class Account(NamedTuple):
    """Postgres does not run as root; None is ourselves."""

    uid: int | None = None
    gid: int | None = None

    def arguments(self) -> dict[str, Any]:
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}


class Aim(NamedTuple):
    """`cluster` is the directory to be made; `until` the last moment that it shall know of, None for all there is."""

    cluster: Path
    until: datetime | None
    replace: bool
    account: Account
    programs: Path | None
    database: str
    superuser: str


def account_of(name: str | None) -> Account:
    """Raises Failed where one is needed and none is named."""
    if os.geteuid() != 0:
        return Account()
    try:
        found = pwd.getpwnam(name or "postgres")
    except KeyError:
        raise Failed(
            f"Postgres does not run as root, and there is no user {name or 'postgres'}: say --run-as"
        ) from None
    return Account(found.pw_uid, found.pw_gid)


def chosen(source: Path, until: datetime | None) -> Backup:
    """The backup itself, or of a directory of them the newest base backup that had ended by then. Raises Failed."""
    if (source / "manifest.json").exists():
        return named(source)
    found = [b for b in backups(source, "base") if until is None or ended(b) <= until]
    if not found:
        raise Failed(f"{source} holds no base backup" + (f" that had ended by {until}" if until else ""))
    return found[-1]


def ended(backup: Backup) -> datetime:
    return datetime.fromisoformat(backup.manifest()["ended_at"])


def demand_possible(backup: Backup, aim: Aim) -> None:
    """Raises Failed before anything is unpacked."""
    if backup.kind != "base":
        raise Failed(f"{backup.name} is a dump, which knows one moment only: ops/restore dump")
    if aim.until is not None and aim.until < ended(backup):
        raise Failed(f"{backup.name} ended at {ended(backup)}, after the moment asked for: take an older base backup")
    if (aim.cluster / "postmaster.pid").exists():
        raise Failed(f"a server runs in {aim.cluster}, or was not stopped in order: stop it first")
    if aim.cluster.is_mount():
        raise Failed(f"{aim.cluster} is a mount point, and cannot be swapped in one step: name a directory inside it")
    if aim.cluster.exists() and any(aim.cluster.iterdir()) and not aim.replace:
        raise Failed(f"{aim.cluster} is not empty: name another, or say --replace, which moves what is there aside")


@contextlib.contextmanager
def recovered(backup: Backup, keys: Keys, aim: Aim, steps: Steps) -> Iterator[Server]:
    """A server of ours alone over the recovered cluster, for as long as it is looked at; then the cluster gets its
    name. Raises Failed, and leaves nothing under that name."""
    demand_possible(backup, aim)
    aim.cluster.parent.mkdir(parents=True, exist_ok=True)
    hidden = aim.cluster.with_name(f".{aim.cluster.name}.restoring")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        with steps.step("read the backup to its end"):
            if reading_back.check(backup, keys, aim.programs) != "content":
                raise Failed(f"{backup.name} is encrypted: give the secret key's file with --identity")
        with steps.step("unpack it"):
            _unpack(backup, keys, hidden)
            run(Server({}, aim.programs), "pg_verifybackup", "--quiet", str(hidden))
        with steps.step("unpack the log"):
            manifest = backup.manifest()
            archive = wal.archive_of(backup.path.parent, manifest["system_identifier"])
            wal.lay_out(archive, hidden / _LAID_OUT, manifest["wal_start"], keys)
            _demand_no_hole(hidden, manifest["segment_bytes"], aim)
        (hidden / "recovery.signal").touch()
        _own(hidden, aim.account)
        with _serving(hidden, aim, steps) as server:
            yield server
        shutil.rmtree(hidden / _LAID_OUT)
        _swap(hidden, aim.cluster)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _demand_no_hole(cluster: Path, segment_bytes: int, aim: Aim) -> None:
    """The server would stop at a hole, and come up as if that were all there is. With a moment to reach, it says so."""
    there = [path.name for place in (cluster / "pg_wal", cluster / _LAID_OUT) for path in place.iterdir()]
    if (hole := wal.hole_in(set(there), segment_bytes)) and aim.until is None:
        raise Failed(
            f"the log has a hole at {hole}, and what came after it cannot be had back: say --until a moment before it,"
            " or take a newer base backup"
        )


def _unpack(backup: Backup, keys: Keys, into: Path) -> None:
    into.mkdir(mode=0o700)
    try:
        with (
            reading(stored(backup.path, BASE), keys) as file,
            gzip.GzipFile(fileobj=file) as packed,
            tarfile.open(fileobj=packed, mode="r|") as tar,
        ):
            for member in tar:
                _lay_down(tar, member, into)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as exc:
        raise Failed(f"{backup.name}: {BASE} cannot be unpacked: {exc}") from None


def _lay_down(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    """What a cluster is made of, for its owner alone. By hand: the filters of `extractall` came with Python 3.11.4."""
    path = into / member.name
    if ".." in path.parts or not path.is_relative_to(into):
        raise Failed(f"the archive holds {member.name}, which leads out of it: it is no backup of ours")
    if member.isdir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif (content := tar.extractfile(member)) is not None:
        with open(path, "xb", opener=_private) as file:
            shutil.copyfileobj(content, file)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _own(cluster: Path, account: Account) -> None:
    if account.uid is not None and account.gid is not None:
        for path in (cluster, *cluster.rglob("*")):
            os.chown(path, account.uid, account.gid)


@contextlib.contextmanager
def _serving(cluster: Path, aim: Aim, steps: Steps) -> Iterator[Server]:
    """No network, and a socket in a directory that nobody else can enter. Stopped in order."""
    with tempfile.TemporaryDirectory(prefix="erp-restore-") as directory:
        socket = Path(directory)
        rules = socket / "hba.conf"
        rules.write_text("local all all trust\n")
        _own(socket, aim.account)
        # Debian keeps it elsewhere; without one no server starts
        (cluster / "postgresql.conf").touch()
        _own(cluster, aim.account)
        with (socket / _LOG).open("wb") as log:
            process = subprocess.Popen(
                [program("postgres", aim.programs), "-D", str(cluster), *_settings(socket, rules, aim)],
                cwd=cluster,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **aim.account.arguments(),
            )
        variables = {"PGHOST": str(socket), "PGPORT": "5432", "PGDATABASE": aim.database, "PGUSER": aim.superuser}
        server = Server(variables, aim.programs)
        try:
            with steps.step("replay the log"):
                _wait(process, server, socket / _LOG)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _settings(socket: Path, rules: Path, aim: Aim) -> Iterator[str]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": socket,
        "port": 5432,
        "hba_file": rules,
        "logging_collector": "off",
        "log_destination": "stderr",
        # nobody looks while it replays, and so it may have fewer connections than the server had
        "hot_standby": "off",
        "archive_mode": "off",
        "ssl": "off",
        "shared_preload_libraries": "",
        "restore_command": f'cp "{_LAID_OUT}/%f" "%p"',
        "recovery_target_action": "promote",
        "recovery_target_timeline": "latest",
    }
    if aim.until is not None:
        settings["recovery_target_time"] = aim.until.astimezone(UTC).isoformat(sep=" ")
    for name, value in settings.items():
        yield "-c"
        yield f"{name}={value}"


def _wait(process: subprocess.Popen[bytes], server: Server, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(_why(log.read_text(errors="replace")))
        with contextlib.suppress(Failed):
            if query(server, "select pg_is_in_recovery();") == "f":
                return
        time.sleep(0.2)
    raise Failed("the server did not come up")


def _why(log: str) -> str:
    if "recovery ended before configured recovery target was reached" in log:
        return "the log ends before the moment asked for: ask for an earlier one, or leave out --until for all there is"
    said = [line for line in log.splitlines() if "FATAL" in line or "PANIC" in line or "ERROR" in line]
    return "the server could not recover: " + "; ".join(said[-4:] or log.splitlines()[-4:])


def _swap(hidden: Path, cluster: Path) -> None:
    if cluster.exists():
        if any(cluster.iterdir()):
            cluster.rename(cluster.with_name(f"{cluster.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))
        else:
            cluster.rmdir()
    hidden.rename(cluster)
