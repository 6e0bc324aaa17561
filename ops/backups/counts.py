"""Counts and sums of a database's content: stored with a dump (proof.json), and compared after it was restored."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

from .programs import Failure, Server, command, failure_message, query

_EXPORT_SNAPSHOT = "select pg_export_snapshot();"
_COUNTS = """
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
    """A snapshot for pg_dump, and the counts on it. Valid as long as the transaction that exported it is open."""

    id: str
    counts: dict[str, Any]


@contextlib.contextmanager
def exported_snapshot(server: Server) -> Iterator[Snapshot]:
    """Raises Failure."""
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
        # the service's limits for a request must not end a backup, which takes longer
        psql.stdin.write(
            "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0;"
            f" begin isolation level repeatable read read only; {_EXPORT_SNAPSHOT} {_COUNTS}\n"
        )
        psql.stdin.flush()
        lines = [psql.stdout.readline().strip(), psql.stdout.readline().strip()]
        if not all(lines):
            psql.stdin.close()
            raise Failure(failure_message("psql", psql.stderr.read(), psql.wait(), server.hosts))
        try:
            yield Snapshot(lines[0], json.loads(lines[1]))
        finally:
            psql.stdin.close()
            psql.wait()


def current_counts(server: Server) -> dict[str, Any]:
    counts: dict[str, Any] = json.loads(query(server, _COUNTS))
    return counts


def differences(expected: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    return [
        f"{name} {actual.get(name)} instead of {value}" for name, value in expected.items() if actual.get(name) != value
    ]
