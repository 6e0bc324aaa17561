"""Metrics as a file, for node_exporter's textfile collector or any web server."""

import contextlib
import fcntl
import time
from pathlib import Path
from typing import Any

_OK = 'erp_backup_last_run_ok{{kind="{}"}}'


def write_run(path: Path, kind: str, result: dict[str, Any]) -> None:
    """The metrics of a run. A failed run leaves those of the last good one."""
    label = f'{{kind="{kind}"}}'
    values: dict[str, float] = {
        _OK.format(kind): int(result["ok"]),
        f"erp_backup_last_run_seconds{label}": result["seconds"],
    }
    if result["ok"]:
        values[f"erp_backup_last_success_timestamp_seconds{label}"] = int(time.time())
        values[f"erp_backup_bytes{label}"] = result["bytes"]
    _merge(path, values)


def write_wal(path: Path, *, ok: bool, recoverable_until: float | None) -> None:
    """`recoverable_until` in seconds of the epoch; None leaves the last known value, which gets older. A full disk does
    not end the command, so it raises nothing."""
    values: dict[str, float] = {_OK.format("wal"): int(ok)}
    if recoverable_until is not None:
        values["erp_backup_log_kept_until_timestamp_seconds"] = recoverable_until
    with contextlib.suppress(OSError):
        _merge(path, values)


def _merge(path: Path, values: dict[str, float]) -> None:
    """Under a lock, since several commands may share the file; renamed, since the collector may read at any time."""
    hidden = path.with_name(f".{path.name}.part")
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError):
            known = dict(line.rsplit(" ", 1) for line in path.read_text().splitlines())
        hidden.write_text("".join(f"{name} {value}\n" for name, value in sorted({**known, **values}.items())))
        hidden.rename(path)
