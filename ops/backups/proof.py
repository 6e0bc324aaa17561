"""What a dump says of its own content, counted on the snapshot that it is of; after a restore it must be true again."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

from .programs import Failed, Server, command, complaint, query

_EXPORTED = "select pg_export_snapshot();"
_PROOF = """
select json_build_object(
  'migration', (select version_num from alembic_version),
  'users', (select count(*) from users),
  'items', (select count(*) from items),
  'locations', (select count(*) from locations),
  'exports', (select count(*) from export_jobs),
  'schedules', (select count(*) from export_schedules),
  'audit_entries', (select count(*) from audit_log),
  'audit_last_at', (select max(at) at time zone 'UTC' from audit_log),
  'ledger_entries', (select count(*) from stock_ledger),
  'ledger_quantity', (select sum(quantity)::text from stock_ledger),
  'ledger_value', (select sum(value)::text from stock_ledger));
"""


class Snapshot(NamedTuple):
    """Lives as long as the transaction that exported it."""

    id: str
    proof: dict[str, Any]


@contextlib.contextmanager
def snapshot(server: Server) -> Iterator[Snapshot]:
    """Raises Failed."""
    with subprocess.Popen(
        command(server, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1"),
        env=server.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as psql:
        if psql.stdin is None or psql.stdout is None or psql.stderr is None:
            raise AssertionError
        # a service's own limits must not end a backup that takes longer than a request may
        psql.stdin.write(
            "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0;"
            f" begin isolation level repeatable read read only; {_EXPORTED} {_PROOF}\n"
        )
        psql.stdin.flush()
        said = [psql.stdout.readline().strip(), psql.stdout.readline().strip()]
        if not all(said):
            psql.stdin.close()
            raise Failed(complaint("psql", psql.stderr.read(), psql.wait()))
        try:
            yield Snapshot(said[0], json.loads(said[1]))
        finally:
            psql.stdin.close()
            psql.wait()


def now(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(query(server, _PROOF))
    return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    wrong = {name: value for name, value in expected.items() if found.get(name) != value}
    return [f"{name} {found.get(name)} instead of {value}" for name, value in wrong.items()]
