"""Takes a base backup: a copy of the whole cluster, on which WAL can be replayed."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .catalogue import BASE, timestamp
from .encryption import Keys, writing_tar
from .programs import Failure, Server, query, run, wal_segment_bytes
from .timelines import Lineage, lsn_of, number_of, segment_name, timeline_of

_SCRATCH_PREFIX = "erp-backup-"
_GZIP_LEVEL = 3  # a third of the time of the default, and a tenth larger
_TABLESPACES = "select count(*) from pg_tablespace where spcname not in ('pg_default', 'pg_global');"


def take_base_backup(server: Server, hidden: Path, keys: Keys, scratch: Path | None) -> dict[str, Any]:
    """By pg_basebackup, with the WAL that was written meanwhile; pg_verifybackup checks it before it is packed.

    Of a cluster's leader; of a standby if the address says so (`target_session_attrs=prefer-standby`). If either is
    lost or promoted meanwhile, pg_basebackup fails, and there is no backup.

    `scratch` is a directory for the unencrypted copy until it is packed. Returns what the manifest says of it. Raises
    Failure, OSError."""
    if query(server, _TABLESPACES) != "0":
        raise Failure("the cluster has tablespaces of its own, which a base backup of ours does not hold: use dump")
    # a command that was killed left its unencrypted copy there; our caller holds the lock, so nobody uses it
    for left_over in scratch.glob(f"{_SCRATCH_PREFIX}*") if scratch is not None else ():
        shutil.rmtree(left_over)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=scratch) as directory:
        copy = Path(directory) / "base"
        arguments = ["--checkpoint=fast", "--wal-method=stream", "--manifest-checksums=SHA256", "--no-password"]
        run(server, "pg_basebackup", "-D", str(copy), *arguments)
        ended_at = timestamp()
        run(server, "pg_verifybackup", "--quiet", str(copy))
        ranges = json.loads((copy / "backup_manifest").read_text())["WAL-Ranges"]
        _pack(copy, hidden, keys)
    segment_bytes = wal_segment_bytes(server)
    # more than one if a standby was copied while its primary was replaced
    first = min(ranges, key=lambda each: lsn_of(each["Start-LSN"]))
    last = max(ranges, key=lambda each: lsn_of(each["End-LSN"]))
    return {
        "ended_at": ended_at,
        "wal_start": segment_name(first["Timeline"], lsn_of(first["Start-LSN"]) // segment_bytes, segment_bytes),
        "wal_end": {"timeline": last["Timeline"], "lsn": last["End-LSN"]},
        "segment_bytes": segment_bytes,
    }


def is_on(lineage: Lineage, manifest: dict[str, Any]) -> bool:
    """Whether recovery from a backup with this manifest can follow the lineage: not if the backup holds WAL that the
    lineage does not have, because it was lost in a failover."""
    start, segment_bytes = manifest["wal_start"], manifest["segment_bytes"]
    if (end := manifest.get("wal_end")) is not None:
        return lineage.holds(end["timeline"], lsn_of(end["lsn"]))
    # one of an earlier release
    return lineage.holds(timeline_of(start), number_of(start, segment_bytes) * segment_bytes)


def _pack(copy: Path, hidden: Path, keys: Keys) -> None:
    """The server's manifest comes first, so that who reads the rest as a stream knows what it must be."""
    with writing_tar(hidden, BASE, keys, level=_GZIP_LEVEL) as tar:
        tar.add(copy / "backup_manifest", "backup_manifest")
        for path in sorted(copy.rglob("*")):
            if path.name != "backup_manifest":
                tar.add(path, str(path.relative_to(copy)), recursive=False)
