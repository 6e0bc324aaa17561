"""What a restored database must be told before anybody uses it: that it went back in time, and whose files it has."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from .place import FILES, Backup
from .programs import Failed, Server, query
from .sealed import Keys, reading, stored

# Who had been signed out, re-roled or locked out since then is back: nobody's old tokens may work. What was issued in
# the time that is lost carries greater versions, which the restored ones would reach again one by one.
_END_SESSIONS = """
update users set authority_version = authority_version + 1000;
update refresh_families set revoked_at = now(), revoked_because = 'restored' where revoked_at is null;
"""

# A copy that keeps the name of its original would take that one's store for its own, and clear it of what it does not
# know: all that was exported since.
_NEW_STORE = """
update export_store set database_id = gen_random_uuid(), store_id = null, claimed_at = null;
update export_jobs set status = 'expired' where status = 'succeeded';
"""

_RECORD = """
insert into audit_log (action, entity, entity_id, after, request_id)
values ('database.restored', 'database', current_database(), $json${after}$json$::jsonb, 'ops/restore');
"""

_LAST = "select coalesce(to_char(max(at) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), '') from audit_log;"
_OURS = "select to_regclass('public.audit_log') is not null;"
_PUBLISHED = """
select coalesce(json_object_agg(file_key, result_bytes), '{}') from export_jobs where status = 'succeeded';
"""

# names are those of a Key: letters, digits, points and dashes
_EXPIRE = """
update export_jobs set status = 'expired' where status = 'succeeded'
  and file_key in (select jsonb_array_elements_text($json${names}$json$::jsonb));
"""


def settle(server: Server, backup: Backup, *, same_store: bool, until: str | None) -> str:
    """In one transaction. Returns when the last thing happened that the database knows of. Raises Failed."""
    if query(server, _OURS) != "t":
        raise Failed(f"the database {server.database} that was restored holds no tables of the service")
    last = query(server, _LAST)
    after = json.dumps({"backup": backup.name, "until": until, "last_entry_at": last, "same_store": same_store})
    statements = [_END_SESSIONS, "" if same_store else _NEW_STORE, _RECORD.replace("{after}", after)]
    query(server, "begin;" + "".join(statements) + "commit;")
    return last


def expire_missing(server: Server, store: Path) -> int:
    """Of exports whose file is not in the store's directory any more, say so. Returns how many."""
    published: dict[str, int] = json.loads(query(server, _PUBLISHED))
    gone = [name for name, size in published.items() if not _is_there(store / name, size)]
    if gone:
        query(server, _EXPIRE.replace("{names}", json.dumps(gone)))
    return len(gone)


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def unpack_exports(backup: Backup, keys: Keys, store: Path) -> int:
    """The files that the backup holds into a directory that has none of them. Returns how many. Raises Failed."""
    packed = stored(backup.path, FILES)
    if not packed.exists():
        raise Failed(
            f"{backup.name} holds no export files: leave out --export-files, and they are made again on demand"
        )
    if store.exists() and any(store.iterdir()):
        raise Failed(
            f"{store} is not empty: its files may be newer; use --same-store to keep them, or another directory"
        )
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    many = 0
    with (
        reading(packed, keys) as file,
        gzip.GzipFile(fileobj=file) as opened,
        tarfile.open(fileobj=opened, mode="r|") as tar,
    ):
        for member in tar:
            content = tar.extractfile(member)
            # flat, and plain: whatever else an archive may hold, a store does not
            if content is None or "/" in member.name:
                continue
            with (store / member.name).open("xb") as out:
                shutil.copyfileobj(content, out)
                os.fsync(out.fileno())
            many += not member.name.startswith(".")
    return many


def find_erp(given: str | None) -> list[str] | None:
    """The service's own command, which knows the migrations and the proofs; None if it is not on this host."""
    if given is not None:
        return given.split() or None
    beside = Path(sys.executable).with_name("erp")
    checkout = Path(__file__).parents[2] / ".venv" / "bin" / "erp"
    found = shutil.which("erp") or next((str(path) for path in (beside, checkout) if path.exists()), None)
    return None if found is None else [found]


def erp(command: list[str], address: str, *words: str, more: Mapping[str, str] | None = None) -> str:
    """Raises Failed with all that it said: of `erp verify` those are the rows at fault."""
    environment = {**os.environ, "ERP_DATABASE_URL": address, "ERP_MIGRATION_DATABASE_URL": address, **(more or {})}
    for name in ("ERP_DATABASE_URL_FILE", "ERP_MIGRATION_DATABASE_URL_FILE"):
        environment.pop(name, None)
    ran = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise Failed(f"erp {' '.join(words)} ended with status {ran.returncode}:\n{ran.stdout}{ran.stderr}".strip())
    return ran.stdout + ran.stderr
