"""What a command does not need is not loaded: a second and more at each start, of people and of containers."""

import subprocess
import sys

import pytest

SERVICE = {"litestar", "sqlalchemy", "asyncpg", "psycopg", "procrastinate", "alembic", "structlog"}
MIGRATION = {"alembic", "mako"}
WEB = {"litestar", "uvicorn"}
CLIENT = {"httpx"}
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
    "settings": {*SERVICE, *CLIENT, *TRACING},
    "serve": {*MIGRATION, *CLIENT, *TRACE_EXPORT},
    "worker": {*MIGRATION, *WEB, *CLIENT, *TRACE_EXPORT},
    "queue": {*MIGRATION, *WEB, *CLIENT, *TRACE_EXPORT},
    "migrate": {*WEB, *CLIENT, *TRACING, "procrastinate", "psycopg"},
    "verify": {*MIGRATION, *WEB, *CLIENT, *TRACING},
}


@pytest.mark.parametrize("command", NEVER, ids=lambda command: command or "help")
def test_a_command_loads_nothing_that_it_does_not_need(command: str) -> None:
    words = [*([command] if command else []), "--help"]
    done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    names = set(done.stderr.split())
    own = {name for name in names if name.startswith("erp_service.commands.")}
    assert own - {"erp_service.commands.database"} == ({f"erp_service.commands.{command}"} if command else set())
    assert {name.partition(".")[0] for name in names} & NEVER[command] == set()
