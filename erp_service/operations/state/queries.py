"""Reads of the state of the cluster."""

from typing import get_args

from sqlalchemy import text

from erp_service.audit.seal_queries import head
from erp_service.audit.sealing.figures import oldest_waiting
from erp_service.db.engine import Database
from erp_service.db.notifications import NotificationListener
from erp_service.db.sessions import ReadSession, Session
from erp_service.db.statements import Prepared
from erp_service.exports import admission
from erp_service.operations.queries import database_state
from erp_service.operations.standbys import ClusterNow, cluster_now
from erp_service.operations.state.schemas import (
    DatabaseHealth,
    DatabaseServers,
    LastRuns,
    OperationsState,
    Run,
    RunKind,
    Scaling,
)
from erp_service.queue import inspection as queue

_NOW = Prepared(text("select now()"))
_RUNS = Prepared(
    text("select kind, ok, ended_at, seconds, bytes, place, proofs, failed_proofs from operation_runs order by kind")
)


async def database_health(db: ReadSession, database: Database, notifications: NotificationListener) -> DatabaseHealth:
    state, pool = await database_state(db), database.pool()
    return DatabaseHealth(
        server_version=state.server_version,
        in_recovery=state.in_recovery,
        migration=state.migration,
        pool_size=pool["size"],
        pool_in_use=pool["in_use"],
        hears_notices=notifications.is_current,
    )


async def scaling(db: ReadSession, database: Database) -> Scaling:
    return await _scaling(db, database, await cluster_now(db))


async def _scaling(db: ReadSession, database: Database, cluster: ClusterNow) -> Scaling:
    exports = await admission.counts(db)
    waiting, oldest = await queue.waiting(db)
    return Scaling(
        instances=cluster.instances,
        workers=await queue.workers(db),
        queue_depth=waiting,
        oldest_waiting=oldest,
        running_exports=exports.running,
        waiting_exports=exports.waiting,
        oldest_export=exports.oldest,
        replica=database.replica(),
        database=DatabaseServers(database.leader(), cluster.timeline, cluster.standbys),
    )


async def last_runs(db: Session) -> list[LastRuns]:
    """Of every kind, also of one that has left no record."""
    runs = {(kind, ok): Run(*values) for kind, ok, *values in await db.execute(_RUNS)}
    return [LastRuns(kind, runs.get((kind, True)), runs.get((kind, False))) for kind in get_args(RunKind)]


async def read_state(db: ReadSession, database: Database, notifications: NotificationListener) -> OperationsState:
    cluster = await cluster_now(db)
    return OperationsState(
        now=await db.scalar(_NOW),
        scaling=await _scaling(db, database, cluster),
        database=await database_health(db, database, notifications),
        queues=await queue.depths(db),
        runs=await last_runs(db),
        seal=await head(db),
        unsealed_seconds=await oldest_waiting(db),
        receives_wal=cluster.backup_slot_in_use,
    )
