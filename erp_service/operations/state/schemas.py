"""The state of the whole cluster, as operators read it."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from erp_service.audit.schemas import SealHead
from erp_service.db.replicas.replica import ReplicaNow
from erp_service.operations.standbys import Standby
from erp_service.queue.inspection import Depth, WorkerNow


class DatabaseHealth(Struct):
    """The pool and the notifications are those of the instance that answers."""

    server_version: Annotated[str, Meta(description="of Postgres")]
    in_recovery: Annotated[bool, Meta(description="true: the database is a replica, so nothing can be written")]
    migration: Annotated[str, Meta(description="the revision of the schema")]
    pool_size: Annotated[int, Meta(description="the connections that the instance may have")]
    pool_in_use: Annotated[int, Meta(description="those that requests have now")]
    hears_notices: Annotated[bool, Meta(description="whether the instance hears of changed roles at once")]


class DatabaseServers(Struct):
    """Without standbys there is one server, which leads."""

    leader: Annotated[
        str | None, Meta(description="the host that leads, as the answering instance found it; null before the first")
    ]
    timeline: Annotated[int | None, Meta(description="the leader's: a greater one after each failover")]
    standbys: Annotated[list[Standby], Meta(description="those that are connected to the leader")]


class Scaling(Struct):
    """What shows whether there are too few or too many instances or workers. All times are in seconds."""

    instances: Annotated[int, Meta(description="instances of the API that are connected to the database")]
    workers: Annotated[list[WorkerNow], Meta(description="the registered workers")]
    queue_depth: Annotated[int, Meta(description="jobs that could start if a worker had a free slot")]
    oldest_waiting: Annotated[float | None, Meta(description="how long the first of these has waited")]
    running_exports: Annotated[int, Meta(description="exports that run now")]
    waiting_exports: Annotated[
        int, Meta(description="not in the queue yet: their owners have as many running as they may")
    ]
    oldest_export: Annotated[
        float | None, Meta(description="how long the first export has waited, in the queue or not")
    ]
    replica: Annotated[ReplicaNow | None, Meta(description="null if none is configured")]
    database: Annotated[DatabaseServers, Meta(description="which server leads, and which would take over")]


RunKind = Literal["dump", "base", "verify"]


class Run(Struct):
    """A run of `erp verify`, or of a backup."""

    ended_at: Annotated[datetime, Meta(description="when it ended")]
    seconds: Annotated[float, Meta(description="how long it took")]
    bytes: Annotated[int | None, Meta(description="the size of a backup; null for one that failed")]
    place: Annotated[str | None, Meta(description="where a backup is: the host and the directory")]
    proofs: Annotated[int | None, Meta(description="of `verify`: how many proofs were checked")]
    failed_proofs: Annotated[int | None, Meta(description="of `verify`: how many of them fail")]


class LastRuns(Struct):
    """The last runs of one kind, of those that left a record."""

    kind: Annotated[
        RunKind,
        Meta(description="`dump` and `base` are backups; `verify` succeeded if the books hold"),
    ]
    succeeded: Annotated[Run | None, Meta(description="the last that succeeded; null if none has")]
    failed: Annotated[Run | None, Meta(description="the last that failed; null if none has")]


class OperationsState(Struct):
    """Everything that an operator looks at. All but `database.pool_size`, `pool_in_use` and `hears_notices`, and what
    `scaling.replica` and `scaling.database.leader` say, is the same on every instance."""

    now: Annotated[datetime, Meta(description="the time of the database")]
    scaling: Annotated[Scaling, Meta(description="as `GET /health/scaling`")]
    database: Annotated[DatabaseHealth, Meta(description="as `GET /health/database`")]
    queues: Annotated[list[Depth], Meta(description="the jobs of each queue by status; one that succeeds is deleted")]
    runs: Annotated[list[LastRuns], Meta(description="of each kind, also of one that never ran")]
    seal: Annotated[SealHead, Meta(description="the head of the chain over audit log and ledger")]
    unsealed_seconds: Annotated[
        float | None, Meta(description="for how long the first audit entry waits to be sealed; null if none waits")
    ]
    receives_wal: Annotated[
        bool | None, Meta(description="whether `ops/backup wal` is connected now; null if it never was")
    ]
