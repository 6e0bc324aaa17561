"""The time series that the service exposes."""

import re
from pathlib import Path

from procrastinate import Blueprint

from erp_service.features import FEATURES
from erp_service.observability import telemetry
from erp_service.registry.feature import load
from erp_service.registry.figures import FigureReader
from erp_service.registry.housekeeping import HousekeepingStep, Pruning

PATRONI = frozenset(
    {
        "patroni_cluster_unlocked",
        "patroni_dcs_last_seen",
        "patroni_failsafe_mode_is_active",
        "patroni_is_paused",
        "patroni_pending_restart",
        "patroni_postgres_in_archive_recovery",
        "patroni_postgres_running",
        "patroni_postgres_server_version",
        "patroni_postgres_state",
        "patroni_postgres_streaming",
        "patroni_postgres_timeline",
        "patroni_postmaster_start_time",
        "patroni_primary",
        "patroni_quorum_standby",
        "patroni_replica",
        "patroni_standby_leader",
        "patroni_sync_standby",
        "patroni_version",
        "patroni_xlog_location",
        "patroni_xlog_paused",
        "patroni_xlog_received_location",
        "patroni_xlog_replayed_location",
        "patroni_xlog_replayed_timestamp",
    }
)
"""All that Patroni 4.1 exports of a node whose Postgres runs."""

ETCD = frozenset(
    {
        "etcd_disk_backend_commit_duration_seconds_bucket",
        "etcd_disk_wal_fsync_duration_seconds_bucket",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_server_has_leader",
        "etcd_server_is_leader",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_quota_backend_bytes",
    }
)
"""Those of etcd that operators look at, as 3.4.23 exports them from the start."""

OPS = Path(__file__).parents[2] / "ops"


def known() -> set[str]:
    """The names of all series, including those without a sample yet."""
    load(FEATURES, "tasks", Blueprint)  # a feature defines its metrics where it counts
    load(FEATURES, "housekeeping", Pruning, HousekeepingStep)
    families = {family.name: family.type for family in telemetry.REGISTRY.collect()}
    backups = "".join(file.read_text() for file in (OPS / "backups").glob("*.py"))
    cluster = [name for reader in load(FEATURES, "figures", FigureReader) for name in reader.gauges]
    names = {"erp_database_up", *cluster, *PATRONI, *ETCD, *re.findall(r"erp_backup_[a-z_]+", backups)}
    for name, kind in families.items():
        names.add(name)
        names |= {"counter": {f"{name}_total"}, "histogram": {f"{name}_bucket", f"{name}_count"}}.get(kind, set())
    return names
