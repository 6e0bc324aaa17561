"""pgbouncer in transaction mode, with so few sessions that each transaction is likely to meet another."""

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args
from urllib.parse import quote

import msgspec
import pytest

from erp_service.settings import Settings
from erp_service.standalone import postgres_directory as directory
from erp_service.standalone.postgres import Cluster, RoleName
from tests.support.settings import settings_for
from tests.support.waiting import eventually

SESSIONS = 3
PORT = 6432  # only part of a socket's name


@pytest.fixture(scope="session")
async def pooler(cluster: Cluster) -> AsyncIterator[Path]:
    """The directory of its socket."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert program, "pgbouncer is not installed: ops/test-pooler does that"
    account = directory.find_account()
    with tempfile.TemporaryDirectory(prefix="erp-pooler-") as name:
        place = Path(name)
        directory.make_private(place, account)
        config = place / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={cluster.socket_dir} port=5432\n"
            f"[pgbouncer]\npool_mode = transaction\ndefault_pool_size = {SESSIONS}\nmax_client_conn = 500\n"
            f"listen_port = {PORT}\nunix_socket_dir = {place}\nunix_socket_mode = 0777\n"
            f"auth_type = trust\nauth_file = {place / 'users'}\n"
        )
        (place / "users").write_text("".join(f'"{role}" ""\n' for role in get_args(RoleName)))
        for file in (config, place / "users"):
            file.chmod(0o644)
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, str(config)],
                stdout=log,
                stderr=log,
                **directory.process_options(place, account, signal.SIGKILL),
            )
        try:
            socket = place / f".s.PGSQL.{PORT}"

            async def listens() -> bool:
                assert process.poll() is None, (place / "log").read_text()
                return socket.exists()

            await eventually(listens)
            yield place
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 10)


@pytest.fixture
def settings(cluster: Cluster, database_name: str, tmp_path: Path, pooler: Path) -> Settings:
    direct = settings_for(cluster, database_name, tmp_path)
    through = f"postgresql://erp_app@/{quote(database_name)}?host={quote(str(pooler))}&port={PORT}"
    return msgspec.structs.replace(direct, database_url=through, queue_database_url=direct.database_url)
