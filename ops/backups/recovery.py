"""Point-in-time recovery: makes a cluster of a base backup and the archived WAL."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from . import wal_archive
from .base_backup import is_on
from .catalogue import BASE, Backup, backup_at, backups
from .encryption import Keys, reading_tar
from .options import Steps
from .programs import Failure, Server, program, query, run
from .timelines import SEGMENT, Lineage, timeline_of
from .verification import require_content

_WAL_DIRECTORY = "restored_wal"
_SERVER_LOG = "restore.log"
START_SECONDS = 24 * 3600.0


class Account(NamedTuple):
    """The system account of the server, which refuses to run as root. None is our own."""

    uid: int | None = None
    gid: int | None = None

    def popen_arguments(self) -> dict[str, Any]:
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}


class Plan(NamedTuple):
    """`cluster` is the data directory to make; `target_time` the last commit time to replay, None for all WAL;
    `timeline` the one to recover to, None for the newest."""

    cluster: Path
    target_time: datetime | None
    timeline: int | None
    replace: bool
    account: Account
    programs: Path | None
    database: str
    superuser: str


def account_of(name: str | None) -> Account:
    """Raises Failure if we are root and there is no such user."""
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwnam(name or "postgres")
    except KeyError:
        raise Failure(
            f"Postgres does not run as root, and there is no user {name or 'postgres'}: say --run-as"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def choose(source: Path, keys: Keys, target_time: datetime | None, timeline: int | None) -> Backup:
    """The backup in `source`; or, of a directory of backups, the newest base backup that ended before the target time
    and from which recovery can reach the timeline (see `lineage_of`).

    Raises Failure."""
    if (source / "manifest.json").exists():
        return backup_at(source)
    candidates = [b for b in backups(source, "base") if target_time is None or ended_at(b) <= target_time]
    if not candidates:
        raise Failure(f"{source} holds no base backup" + (f" that had ended by {target_time}" if target_time else ""))
    for backup in reversed(candidates):
        if is_on(lineage_of(backup, keys, timeline), backup.manifest()):
            return backup
    raise Failure(f"{source} holds no base backup from which this timeline can be reached: say another --timeline")


def lineage_of(backup: Backup, keys: Keys, timeline: int | None) -> Lineage:
    """The timeline to recover to, by default the newest one that has WAL in the archive: the one that the service
    went on with after the last failover. Raises Failure."""
    manifest = backup.manifest()
    archive = _archive(backup)
    newest = max(wal_archive.segments(archive), default=manifest["wal_start"])
    return wal_archive.lineage_to(archive, timeline or timeline_of(newest), keys)


def _archive(backup: Backup) -> Path:
    return wal_archive.directory_of(backup.path.parent, backup.manifest()["system_identifier"])


def ended_at(backup: Backup) -> datetime:
    return datetime.fromisoformat(backup.manifest()["ended_at"])


def require_possible(backup: Backup, plan: Plan) -> None:
    """Raises Failure before anything is unpacked."""
    if backup.kind != "base":
        raise Failure(f"{backup.name} is a dump, which can only restore the time it was taken: ops/restore dump")
    if plan.target_time is not None and plan.target_time < ended_at(backup):
        raise Failure(f"{backup.name} ended at {ended_at(backup)}, after the time asked for: take an older base backup")
    if (plan.cluster / "postmaster.pid").exists():
        raise Failure(f"a server runs in {plan.cluster}, or was not shut down properly: stop it first")
    if plan.cluster.is_mount():
        raise Failure(f"{plan.cluster} is a mount point, and cannot be swapped in one step: name a directory inside it")
    if plan.cluster.exists() and any(plan.cluster.iterdir()) and not plan.replace:
        raise Failure(f"{plan.cluster} is not empty: name another, or say --replace, which moves what is there aside")


@contextlib.contextmanager
def recovered(backup: Backup, keys: Keys, plan: Plan, steps: Steps) -> Iterator[Server]:
    """A server over the recovered cluster that only we can reach. When the caller is done, it is shut down and the
    cluster gets its name. Raises Failure, and then there is nothing under that name."""
    require_possible(backup, plan)
    plan.cluster.parent.mkdir(parents=True, exist_ok=True)
    hidden = plan.cluster.with_name(f".{plan.cluster.name}.restoring")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        with steps.step("read the backup to its end"):
            require_content(backup, keys, plan.programs)
        with steps.step("unpack it"):
            _unpack(backup, keys, hidden)
            run(Server({}, plan.programs), "pg_verifybackup", "--quiet", str(hidden))
        with steps.step("unpack the log"):
            lineage = lineage_of(backup, keys, plan.timeline)
            _unpack_wal(backup, keys, hidden, lineage, plan)
        # a standby's copy has one, and would wait for its primary
        (hidden / "standby.signal").unlink(missing_ok=True)
        (hidden / "recovery.signal").touch()
        _change_owner(hidden, plan.account)
        with _running(hidden, plan, lineage.timeline, steps) as server:
            yield server
        shutil.rmtree(hidden / _WAL_DIRECTORY)
        _rename(hidden, plan.cluster)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _unpack_wal(backup: Backup, keys: Keys, cluster: Path, lineage: Lineage, plan: Plan) -> None:
    """Without a target time the server would end recovery at a gap without an error. With one, it fails by itself."""
    manifest = backup.manifest()
    if not is_on(lineage, manifest):
        raise Failure(
            f"{backup.name} holds WAL that timeline {lineage.timeline} does not have, or is of a later one: take"
            " another base backup, or say another --timeline"
        )
    segment_bytes, into = manifest["segment_bytes"], cluster / _WAL_DIRECTORY
    wal_archive.unpack(_archive(backup), into, manifest["wal_start"], lineage, keys, segment_bytes)
    names = {path.name for path in (*(cluster / "pg_wal").iterdir(), *into.iterdir()) if SEGMENT.fullmatch(path.name)}
    if plan.target_time is None and (gap := lineage.first_gap(names, segment_bytes)):
        raise Failure(
            f"the WAL archive has a gap at {gap}, and nothing after it can be restored: say --until a time before it,"
            " or take a newer base backup"
        )


def _unpack(backup: Backup, keys: Keys, into: Path) -> None:
    into.mkdir(mode=0o700)
    with reading_tar(backup.path, BASE, keys) as tar:
        for member in tar:
            _extract(tar, member, into)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    """Files and directories only, for their owner alone. The filters of `extractall` came with Python 3.11.4."""
    path = into / member.name
    if ".." in path.parts or not path.is_relative_to(into):
        raise Failure(f"the archive holds {member.name}, a path outside of it: it is no backup of ours")
    if member.isdir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif (content := tar.extractfile(member)) is not None:
        with open(path, "xb", opener=_open_private) as file:
            shutil.copyfileobj(content, file)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _change_owner(directory: Path, account: Account) -> None:
    if account.uid is not None and account.gid is not None:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, account.uid, account.gid)


@contextlib.contextmanager
def _running(cluster: Path, plan: Plan, timeline: int, steps: Steps) -> Iterator[Server]:
    """Without network, and with its socket in a directory that no other user can enter. Ends with a fast shutdown."""
    with tempfile.TemporaryDirectory(prefix="erp-restore-") as directory:
        socket = Path(directory)
        hba = socket / "hba.conf"
        hba.write_text("local all all trust\n")
        _change_owner(socket, plan.account)
        # Debian keeps it outside of the data directory; without one the server does not start
        (cluster / "postgresql.conf").touch()
        _change_owner(cluster, plan.account)
        with (socket / _SERVER_LOG).open("wb") as log:
            process = subprocess.Popen(
                [program("postgres", plan.programs), "-D", str(cluster), *_settings(socket, hba, plan, timeline)],
                cwd=cluster,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **plan.account.popen_arguments(),
            )
        variables = {"PGHOST": str(socket), "PGPORT": "5432", "PGDATABASE": plan.database, "PGUSER": plan.superuser}
        server = Server(variables, plan.programs)
        try:
            with steps.step("replay the log"):
                _wait_until_promoted(process, server, socket / _SERVER_LOG)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _settings(socket: Path, hba: Path, plan: Plan, timeline: int) -> Iterator[str]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": socket,
        "port": 5432,
        "hba_file": hba,
        "logging_collector": "off",
        "log_destination": "stderr",
        # a hot standby must allow as many connections as its primary did, which we do not know
        "hot_standby": "off",
        "archive_mode": "off",
        # as Patroni wrote them into the copy: our first commit would wait for standbys that are not there
        "synchronous_standby_names": "",
        "recovery_min_apply_delay": 0,
        "ssl": "off",
        "shared_preload_libraries": "",
        "restore_command": f'cp "{_WAL_DIRECTORY}/%f" "%p"',
        "recovery_target_action": "promote",
        "recovery_target_timeline": timeline,
    }
    if plan.target_time is not None:
        settings["recovery_target_time"] = plan.target_time.astimezone(UTC).isoformat(sep=" ")
    for name, value in settings.items():
        yield "-c"
        yield f"{name}={value}"


def _wait_until_promoted(process: subprocess.Popen[bytes], server: Server, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failure(_reason(log.read_text(errors="replace")))
        with contextlib.suppress(Failure):
            if query(server, "select pg_is_in_recovery();") == "f":
                return
        time.sleep(0.2)
    raise Failure("the server did not come up")


def _reason(log: str) -> str:
    if "recovery ended before configured recovery target was reached" in log:
        return "the WAL ends before the time asked for: ask for an earlier one, or leave out --until for all there is"
    errors = [line for line in log.splitlines() if "FATAL" in line or "PANIC" in line or "ERROR" in line]
    return "the server could not recover: " + "; ".join(errors[-4:] or log.splitlines()[-4:])


def _rename(hidden: Path, cluster: Path) -> None:
    """Moves the previous content aside."""
    if cluster.exists():
        if any(cluster.iterdir()):
            cluster.rename(cluster.with_name(f"{cluster.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))
        else:
            cluster.rmdir()
    hidden.rename(cluster)
