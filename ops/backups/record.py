"""What a backup leaves in the database about itself, for those who look at the service and not at this host."""

import socket
from pathlib import Path

from . import options
from .programs import Failure, Server, run, server_of

_SECONDS = 60.0
"""Longer than it takes to find out that none of several hosts answers."""

# Not to wait for a standby that is away, nor for others. Not in a copy that follows another database, whose replication
# a row of its own would stop. The values are psql's variables, which it quotes.
_RECORD = """
set synchronous_commit = local; set lock_timeout = '5s'; set statement_timeout = '10s';
insert into operation_runs (kind, ok, seconds, bytes, place)
select :'kind', :'ok'::boolean, :'seconds'::float8, nullif(:'bytes', '')::bigint, :'place'
where not exists (
  select from pg_subscription where subdbid = (select oid from pg_database where datname = current_database()))
on conflict (kind, ok) do update set ended_at = clock_timestamp(), seconds = excluded.seconds, bytes = excluded.bytes,
  place = excluded.place;
"""


def record(server: Server, kind: str, seconds: float, path: Path, size: int | None) -> None:
    """`size` in bytes, None for a backup that failed. Says so if it cannot be written, and raises nothing: the backup
    is what counts."""
    values = {
        "kind": kind,
        "ok": "false" if size is None else "true",
        "seconds": str(seconds),
        "bytes": "" if size is None else str(size),
        "place": f"{socket.gethostname()}:{path.absolute()}",
    }
    arguments = [argument for name, value in values.items() for argument in ("-v", f"{name}={value}")]
    try:
        arguments = ["-Xqw", "-v", "ON_ERROR_STOP=1", *arguments, "-f", "-"]
        run(_recorder(server), "psql", *arguments, stdin=_RECORD, seconds=_SECONDS)
    except (Failure, OSError) as exc:
        options.log(f"backup: no record of this run was left in the database: {exc}")


def _recorder(server: Server) -> Server:
    """By the address that is named for it, if one is. Of several hosts, the one that leads: a backup may be taken from
    a standby, which takes no record. Raises Failure, OSError."""
    if (address := options.variable("ERP_BACKUP_RECORD_URL")) is not None:
        server = server_of(address, server.programs)
    if len(server.hosts) == 1:
        return server
    return server._replace(variables={**server.variables, "PGTARGETSESSIONATTRS": "primary"})
