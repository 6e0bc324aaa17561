"""What a command does not need is not loaded: a second and more at each start, of people and of containers."""

import subprocess
import sys

import pytest

SERVICE = {"litestar", "sqlalchemy", "asyncpg", "psycopg", "procrastinate", "alembic", "structlog"}
MIGRATION = {"alembic", "mako"}
WEB = {"litestar", "uvicorn"}
CLIENT = {"httpx"}
SHARED = {"erp_service.commands.database", "erp_service.commands.progress", "erp_service.commands.terminal"}
# OpenTelemetry: its API takes 10 ms, for what submits or runs exports; its exporter (protobuf) is for a setting alone
TRACING, TRACE_EXPORT = {"opentelemetry"}, {"google"}

RUN = """
import sys
from erp_service.cli import main
main(standalone_mode=False)
print(*sys.modules, file=sys.stderr)
"""

NEVER = {
    "": {*SERVICE, *CLIENT, *TRACING, "rich"},
    "export": {*SERVICE, *TRACING},
    "settings": {*MIGRATION, *WEB, *CLIENT, *TRACING, "procrastinate", "psycopg"},
    "serve": {*MIGRATION, *CLIENT, *TRACE_EXPORT},
    "worker": {*MIGRATION, *WEB, *CLIENT, *TRACE_EXPORT},
    "queue": {*MIGRATION, *WEB, *CLIENT, *TRACE_EXPORT},
    "migrate": {*WEB, *CLIENT, *TRACING, "procrastinate", "psycopg"},
    "verify": {*MIGRATION, *WEB, *CLIENT, *TRACING},
}


LOAD = """
import sys
from erp_service.features import FEATURES
from erp_service.registry.feature import load
if len(sys.argv) > 1:
    assert load(FEATURES, sys.argv[1], object)
print(*sys.modules, file=sys.stderr)
"""

NEVER_WITH = {
    "": {*SERVICE, *WEB, *CLIENT},
    "datasets": {*SERVICE, *WEB, *CLIENT},
    "proofs": {*MIGRATION, *WEB, *CLIENT, "procrastinate", "psycopg"},
    "tasks": {*MIGRATION, *WEB, *CLIENT},
    "queues": {*MIGRATION, *WEB, *CLIENT},
    "background": {*MIGRATION, *WEB, *CLIENT},
    "housekeeping": {*MIGRATION, *WEB, *CLIENT},
    "figures": {*MIGRATION, *WEB, *CLIENT},
}
"""What stays unloaded when every feature's parts of one kind are loaded; with "", only the list of features is."""


@pytest.mark.parametrize("kind", NEVER_WITH, ids=lambda kind: kind or "features")
def test_parts_of_one_kind_load_nothing_that_they_do_not_need(kind: str) -> None:
    words = [kind] if kind else []
    done = subprocess.run([sys.executable, "-c", LOAD, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {name.partition(".")[0] for name in done.stderr.split()} & NEVER_WITH[kind] == set()


@pytest.mark.parametrize("command", NEVER, ids=lambda command: command or "help")
def test_a_command_loads_nothing_that_it_does_not_need(command: str) -> None:
    words = [*([command] if command else []), "--help"]
    done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    names = set(done.stderr.split())
    own = {name for name in names if name.startswith("erp_service.commands.")}
    assert own - SHARED == ({f"erp_service.commands.{command}"} if command else set())
    assert {name.partition(".")[0] for name in names} & NEVER[command] == set()
