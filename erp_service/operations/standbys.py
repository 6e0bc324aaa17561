"""The servers that follow the leader, as it sees them itself: at /metrics and at /health/scaling.

The service's roles may not see all of `pg_stat_replication`: to whoever is no member of pg_read_all_stats it shows
names alone. What is missing there is taken from the slots, and from the setting that names the synchronous standbys;
Postgres shows both to everybody."""

import math
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import text

from erp_service.db.notifications import APPLICATION
from erp_service.db.sessions import Session
from erp_service.registry.figures import FigureReader

BACKUP_SLOT = "erp_backup"
"""The slot through which ops/backup receives the WAL."""


class Standby(Struct, frozen=True):
    name: Annotated[str, Meta(description="its application_name: with Patroni, the name of the node")]
    synchronous: Annotated[bool, Meta(description="whether a commit may wait for it")]
    lag_bytes: Annotated[
        int | None, Meta(description="how much WAL it has not confirmed; null if it has no replication slot")
    ]


class ClusterNow(Struct, frozen=True):
    """`instances` of the API listen for notifications: each has one connection for that. `backup_slot_in_use` is None
    where there is no such slot, `timeline` on a server that recovers."""

    instances: int
    timeline: int | None
    standbys: list[Standby]
    backup_slot_in_use: bool | None


# pg_receivewal and pg_basebackup are no standbys. The first eight digits in the name of a WAL file are the timeline.
_CLUSTER = text("""
    with here as (
      select pg_is_in_recovery() as recovering,
        case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end as lsn
    ), standbys as (
      select receiver.application_name as name, receiver.sync_state, here.lsn - coalesce(flush_lsn, restart_lsn) as lag
      from here cross join pg_stat_replication receiver left join pg_replication_slots slot on slot.active_pid = pid
      where receiver.application_name not like 'pg\\_%' and slot.slot_type is distinct from 'logical'
    )
    select (select count(*) from pg_stat_activity where application_name = :name and datname = current_database())
        as instances,
      (select case when not recovering then pg_walfile_name(lsn) end from here) as file,
      current_setting('synchronous_standby_names') as named,
      (select active from pg_replication_slots where slot_name = :backup_slot) as backup_slot_in_use,
      array(select name from standbys order by name, lag) as names,
      array(select sync_state from standbys order by name, lag) as states,
      array(select greatest(lag, 0)::bigint from standbys order by name, lag) as lags
""")


async def cluster_now(db: Session) -> ClusterNow:
    """The instances that are connected and the standbys, in one statement."""
    row = (await db.execute(_CLUSTER, {"name": APPLICATION, "backup_slot": BACKUP_SLOT})).one()
    named = synchronous_names(row.named)
    return ClusterNow(
        instances=row.instances,
        timeline=None if row.file is None else int(row.file[:8], 16),
        standbys=[
            Standby(name, _is_synchronous(name, state, named), lag)
            for name, state, lag in zip(row.names, row.states, row.lags, strict=True)
        ],
        backup_slot_in_use=row.backup_slot_in_use,
    )


def synchronous_names(setting: str) -> frozenset[str]:
    """The names in a value of synchronous_standby_names, in lower case, since Postgres compares them without case:
    of `ANY 1 ("db-1", db2)` these are db-1 and db2. `*` means every standby."""
    _, parenthesis, listed = setting.partition("(")
    names = listed.rpartition(")")[0] if parenthesis else setting
    return frozenset(name.strip().strip('"').lower() for name in names.split(",") if name.strip())


def _is_synchronous(name: str, state: str | None, named: frozenset[str]) -> bool:
    """`state` is None if the role may not see it."""
    if state is not None:
        return state in ("sync", "quorum")
    return name.lower() in named or "*" in named


_GAUGES = {
    "erp_standbys": "Standbys that are connected to the leader",
    "erp_standbys_synchronous": "Those of them for which a commit may wait",
    "erp_standby_lag_bytes": "WAL that the one of them that is furthest behind has not confirmed",
    "erp_backup_slot_in_use": f"1 while backups receive the WAL through the slot {BACKUP_SLOT}; NaN without that slot",
}


async def _figures(db: Session) -> dict[str, float]:
    now = await cluster_now(db)
    in_use = now.backup_slot_in_use
    return {
        "erp_standbys": len(now.standbys),
        "erp_standbys_synchronous": sum(standby.synchronous for standby in now.standbys),
        "erp_standby_lag_bytes": max((standby.lag_bytes or 0 for standby in now.standbys), default=0),
        "erp_backup_slot_in_use": math.nan if in_use is None else in_use,
    }


FIGURES = (FigureReader(_GAUGES, _figures),)
