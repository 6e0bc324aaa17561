"""What a restored database needs before anybody uses it: it went back in time, and its export files may be gone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .catalogue import EXPORTS, Backup
from .encryption import Keys, reading_tar, stored_path
from .programs import Failure, Server, query

# Sessions that were ended since the backup are valid again, with old roles: no token from before may be accepted.
# Tokens issued in the time that is lost carry greater versions, which the restored ones would reach one by one: so
# the step is large.
_END_SESSIONS = """
update users set authority_version = authority_version + 1000;
update refresh_families set revoked_at = now(), revoked_because = 'restored' where revoked_at is null;
"""

# A copy with the identity of its original would take the original's export store for its own, and delete the files that
# the copy does not know: all exports since the backup.
_NEW_STORE = """
update export_store set database_id = gen_random_uuid(), store_id = null, claimed_at = null;
update export_jobs set status = 'expired' where status = 'succeeded';
"""

_RECORD = """
insert into audit_log (action, entity, entity_id, after, request_id)
values ('database.restored', 'database', current_database(), $json${after}$json$::jsonb, 'ops/restore');
"""

_LAST = "select coalesce(to_char(max(at) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), '') from audit_log;"
_IS_SERVICE_DATABASE = "select to_regclass('public.audit_log') is not null;"
_SUCCEEDED = """
select coalesce(json_object_agg(file_key, result_bytes), '{}') from export_jobs where status = 'succeeded';
"""

# the names need no quoting: a storage key has letters, digits, points and dashes
_EXPIRE = """
update export_jobs set status = 'expired' where status = 'succeeded'
  and file_key in (select jsonb_array_elements_text($json${names}$json$::jsonb));
"""


def settle(server: Server, backup: Backup, *, same_store: bool, until: str | None) -> str:
    """Ends all sessions, unless `same_store` gives the database a new identity towards export stores, and records the
    restore in the audit log, in one transaction.

    Returns the time of the last audit entry before it. Raises Failure."""
    if query(server, _IS_SERVICE_DATABASE) != "t":
        raise Failure(f"the database {server.database} that was restored holds no tables of the service")
    last = query(server, _LAST)
    after = json.dumps({"backup": backup.name, "until": until, "last_entry_at": last, "same_store": same_store})
    statements = [_END_SESSIONS, "" if same_store else _NEW_STORE, _RECORD.replace("{after}", after)]
    query(server, "begin;" + "".join(statements) + "commit;")
    return last


def expire_missing(server: Server, store: Path) -> int:
    """Marks exports as expired whose file is not in the store's directory. Returns how many."""
    sizes: dict[str, int] = json.loads(query(server, _SUCCEEDED))
    missing = [name for name, size in sizes.items() if not _exists(store / name, size)]
    if missing:
        query(server, _EXPIRE.replace("{names}", json.dumps(missing)))
    return len(missing)


def _exists(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def unpack_exports(backup: Backup, keys: Keys, store: Path) -> None:
    """Unpacks the backup's export files into an empty or new directory. Raises Failure."""
    if not stored_path(backup.path, EXPORTS).exists():
        raise Failure(
            f"{backup.name} holds no export files: leave out --export-files, and they are made again on demand"
        )
    if store.exists() and any(store.iterdir()):
        raise Failure(
            f"{store} is not empty: its files may be newer; use --same-store to keep them, or another directory"
        )
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    with reading_tar(backup.path, EXPORTS, keys) as tar:
        for member in tar:
            content = tar.extractfile(member)
            # a store has plain files and no directories: nothing else is unpacked
            if content is None or "/" in member.name:
                continue
            with (store / member.name).open("xb") as out:
                shutil.copyfileobj(content, out)
                os.fsync(out.fileno())


def find_erp(option: str | None) -> list[str] | None:
    """The service's command, which has the migrations and the proofs; None if this host has none."""
    if option is not None:
        return option.split() or None
    beside = Path(sys.executable).with_name("erp")
    checkout = Path(__file__).parents[2] / ".venv" / "bin" / "erp"
    path = shutil.which("erp") or next((str(path) for path in (beside, checkout) if path.exists()), None)
    return None if path is None else [path]


def run_erp(command: list[str], address: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Raises Failure with the whole output: that of `erp verify` names the rows at fault."""
    variables = {
        **os.environ,
        "ERP_DATABASE_URL": address,
        "ERP_MIGRATION_DATABASE_URL": address,
        **(environment or {}),
    }
    for name in ("ERP_DATABASE_URL_FILE", "ERP_MIGRATION_DATABASE_URL_FILE"):
        variables.pop(name, None)
    done = subprocess.run([*command, *arguments], env=variables, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode:
        raise Failure(f"erp {' '.join(arguments)} ended with status {done.returncode}:\n{output}".strip())
    return output
