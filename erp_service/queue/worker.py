"""Procrastinate's app and worker, hardened against failures that end those of 3.10.

tests/queue/test_contract.py names every private method that is overridden here and compares it with the installed
version. Overridden: App._worker; Worker.queues, _update_heartbeat, _periodic_deferrer, _monitor_side_tasks,
_handle_notification, _fetch_and_process_jobs, _process_job, _persist_job_status, _shutdown."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Unpack

import procrastinate
from procrastinate import blueprints, exceptions, job_context, jobs, retry, utils, worker
from procrastinate.app import WorkerOptions

from erp_service.observability import telemetry
from erp_service.queue.attempts import JobAttempt
from erp_service.queue.connector import WorkerConnector
from erp_service.queue.fencing import FencedJobManager
from erp_service.queue.lifeline import Lifeline
from erp_service.queue.rescue import Timeouts
from erp_service.registry.services import ServiceSet

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
ABORT_POLL_SECONDS = 1.0
# Side tasks that a drain needs: without heartbeats its jobs would be rescued, and a cancel must still reach them
NEEDED_TO_THE_END = {"update_heartbeats", "poll_jobs_to_abort", "listener"}


class WorkerFailed(exceptions.ProcrastinateException):
    """The worker stopped because a part of it failed; the log says which."""


class Stop(Enum):
    """Why a task gets CancelledError."""

    CANCELED = "somebody canceled the job"
    SHUTDOWN = "this worker shuts down; the job goes back to the queue"
    TAKEN_OVER = "this run is no longer the job's own; write nothing more"


def stopped_by(context: job_context.JobContext) -> Stop:
    """For a task that caught CancelledError and records why. It must raise it again."""
    match context.abort_reason():
        case job_context.AbortReason.USER_REQUEST:
            return Stop.CANCELED
        case job_context.AbortReason.SHUTDOWN:
            return Stop.SHUTDOWN
        case _:
            return Stop.TAKEN_OVER


def services_of(context: job_context.JobContext) -> ServiceSet:
    """The services that the worker process was composed with."""
    return context.additional_context["services"]  # type: ignore[no-any-return]


class HardenedApp(procrastinate.App):
    """The queue of one process. It must be open to run a worker, but not to defer in a transaction.

    `grace_seconds` is how long a drain waits for running jobs before they go back to the queue. `at_most` is how many
    jobs of a queue one worker runs at once, so that slots stay free for others; it names every queue that is not the
    queue of a task. `own` are the queues with slots of their own, and how many of the `concurrency` these are.
    `background` runs for as long as a worker, needs no slot, and never returns.
    """

    connector: WorkerConnector

    def __init__(
        self,
        *,
        connector: WorkerConnector,
        timeouts: Timeouts | None = None,
        concurrency: int = 4,
        grace_seconds: float = 20,
        at_most: Mapping[str, int] | None = None,
        own: Mapping[str, int] | None = None,
        background: Callable[[], Coroutine[Any, Any, None]] | None = None,
        services: ServiceSet | None = None,
        import_paths: Iterable[str] | None = None,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self.at_most = at_most or {}
        self.own = own or {}
        self.shared = concurrency - sum(self.own.values())
        self.background = background
        defaults: WorkerOptions = {
            "concurrency": concurrency,
            "shutdown_graceful_timeout": grace_seconds,
            "abort_job_polling_interval": ABORT_POLL_SECONDS,
            "update_heartbeat_interval": self.timeouts.heartbeat,
            # pruning only deletes rows: the jobs of a silent worker were rescued long before
            "stalled_worker_timeout": max(60.0, 10 * self.timeouts.stalled),
            # the record of a job is the row of its feature
            "delete_jobs": "successful",
            # in the defaults, since `procrastinate worker` runs no code of ours that could pass it
            "additional_context": {"services": services},
        }
        super().__init__(connector=connector, import_paths=import_paths, worker_defaults=defaults)
        self.job_manager = FencedJobManager(connector)

    def gather(self, *features: blueprints.Blueprint) -> None:
        """Register each feature's tasks under the names that they declare. Raises TaskAlreadyRegistered.

        Upstream's add_tasks_from renames the tasks of the blueprint, so a second app in a process would get others."""
        for feature in features:
            if taken := self.tasks.keys() & feature.tasks.keys():
                raise exceptions.TaskAlreadyRegistered(f"more than one task is named {', '.join(sorted(taken))}")
            self.tasks.update(feature.tasks)
            for task in feature.tasks.values():
                task.blueprint = self
            self.periodic_registry.periodic_tasks.update(feature.periodic_registry.periodic_tasks)

    def _worker(self, **options: Unpack[WorkerOptions]) -> "HardenedWorker":
        """So that `procrastinate --app=... worker` runs the hardened worker, too."""
        merged: WorkerOptions = {**self.worker_defaults, **options}
        return HardenedWorker(self, **merged)


class HardenedWorker(worker.Worker):
    app: HardenedApp

    def __init__(self, app: HardenedApp, **options: Unpack[WorkerOptions]) -> None:
        super().__init__(app, **options)
        self.failed = False
        # by the identity of the job's object, since two runs may have one number: whether its end must not be written
        self._stopped: dict[int, bool] = {}
        self._was_connected = False
        self._notifications = 0
        self._lifeline = Lifeline(
            app.connector.url,
            app.timeouts,
            own_runs=self._own_runs,
            stop_runs=self._stop_runs,
            on_connect=self._mend_pool,
        )

    async def run(self) -> None:
        """Raises WorkerFailed, so that the exit status tells a supervisor of the failure (upstream: 0)."""
        background = [asyncio.create_task(self.app.background(), name="background")] if self.app.background else []
        try:
            await super().run()  # type: ignore[no-untyped-call]
        finally:
            await utils.cancel_and_capture_errors(background)
        if self.failed:
            raise WorkerFailed

    @property
    def queues(self) -> Iterable[str] | None:
        """The queues to fetch from now: none of which `at_most` jobs run here already, and once the slots that queues
        share are taken, only those with slots of their own."""
        jobs_of = Counter(context.job.queue for context in self._running_jobs.values())
        full = {queue for queue, most in self.app.at_most.items() if jobs_of[queue] >= most}
        shared_jobs = sum(jobs for queue, jobs in jobs_of.items() if queue not in self.app.own)
        are_all_shared_taken = bool(self.app.own) and shared_jobs >= self.app.shared
        if not full and not are_all_shared_taken:
            return self._configured_queues
        known = self._configured_queues or {*self.app.at_most, *(task.queue for task in self.app.tasks.values())}
        return sorted({*self.app.own} & {*known} - full if are_all_shared_taken else {*known} - full)

    @queues.setter
    def queues(self, queues: Iterable[str] | None) -> None:
        self._configured_queues = queues

    async def _process_job(self, context: job_context.JobContext) -> None:
        """When the job ends, its queue is no longer full: upstream would not fetch before the next poll."""
        task = asyncio.current_task()
        if task is not None and context.job.queue in self.app.at_most:
            task.add_done_callback(self._look_again)
        await super()._process_job(context)

    def _look_again(self, _task: object) -> None:
        self._notifications += 1
        self._new_job_event.set()

    async def _update_heartbeat(self) -> None:
        """Upstream's heartbeat ends with the first outage, and waits while jobs use all connections of the pool."""
        if self.worker_id is None:
            raise RuntimeError("a worker has no heartbeat before it is registered")
        await self._lifeline.hold(self.worker_id)

    async def _periodic_deferrer(self) -> None:
        """Issue #1116: upstream's ends at the first outage, and the worker with it."""
        while True:
            try:
                await super()._periodic_deferrer()  # type: ignore[no-untyped-call]
            except exceptions.ConnectorException as exc:
                log.warning("periodic jobs are not deferred, trying again: %r", exc.__cause__)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _monitor_side_tasks(self, side_tasks: list[asyncio.Task[Any]]) -> None:
        """Issue #1597: upstream's ends with the first side task, without periodic jobs right at the start."""
        pending = set(side_tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and (exc := task.exception()):
                    log.error("%s failed, so the worker stops", task.get_name(), exc_info=exc)
                    self.failed = True
                    self.stop()  # type: ignore[no-untyped-call]

    async def _handle_notification(self, *, channel: str, notification: jobs.Notification) -> None:
        """Counts notifications: `_fetch_and_process_jobs` must know whether one came while it fetched."""
        self._notifications += 1
        await super()._handle_notification(channel=channel, notification=notification)

    async def _fetch_and_process_jobs(self) -> None:
        """Fetch only while the lock is held, or others would rescue the job. An outage does not end the worker.

        Race: upstream clears the event after each fetch, with the notifications that came meanwhile. Their jobs, which
        the fetch may not have seen, would wait for the next poll. So fetch again."""
        before = self._notifications
        try:
            await utils.wait_any(self._lifeline.has_lock.wait(), self._stop_event.wait())
            await super()._fetch_and_process_jobs()  # type: ignore[no-untyped-call]
        except exceptions.ConnectorException as exc:
            if not self.wait:
                raise
            log.warning("no job can be fetched, trying again: %r", exc.__cause__)
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._new_job_event.set)
        if self._notifications != before:
            self._new_job_event.set()

    async def _persist_job_status(
        self,
        job: jobs.Job,
        status: jobs.Status,
        retry_decision: retry.RetryDecision | None,
        context: job_context.JobContext,
        job_result: job_context.JobResult | None,
    ) -> None:
        """A run that this worker interrupted goes back to the queue (upstream aborts it, so its work is lost), even if
        its task answered the cancellation with another error. The fence decides whether it is still ours."""
        run = JobAttempt.of(job)
        interrupted = id(job) in self._stopped or stopped_by(context) is Stop.SHUTDOWN
        if interrupted and status is not jobs.Status.SUCCEEDED:
            retry_decision = retry_decision or retry.RetryDecision()
        try:
            if not self._stopped.get(id(job)):
                await super()._persist_job_status(job, status, retry_decision, context, job_result)
        except (exceptions.ConnectorException, asyncio.CancelledError) as exc:
            log.error("the end of job %s is not written: %r", job.id, exc.__cause__ or exc)
            # the others will rescue it; but a drain that leaves work behind has failed, and the exit status says so
            self.failed = self.failed or self._lifeline.draining
            if isinstance(exc, asyncio.CancelledError):
                raise
        finally:
            # kept after a failed write, it would abort the next run of this job in this worker at its start
            self._job_ids_to_abort.pop(run.job_id, None)

    async def _shutdown(self, side_tasks: list[asyncio.Task[Any]]) -> None:
        """PR #1585: upstream ends heartbeat and listener first. The jobs of a long drain are then rescued and run
        twice, and a cancel does not reach them."""
        needed = [task for task in side_tasks if task.get_name() in NEEDED_TO_THE_END]
        self._lifeline.draining = True
        await utils.cancel_and_capture_errors([task for task in side_tasks if task not in needed])
        try:
            if self._running_jobs:
                log.info("waiting for %s jobs to finish", len(self._running_jobs))
                await asyncio.wait(self._running_jobs, timeout=self.shutdown_graceful_timeout)
            if self._running_jobs:
                log.info("putting %s jobs back into the queue", len(self._running_jobs))
                await self._abort_running_jobs()  # type: ignore[no-untyped-call]
        finally:
            await utils.cancel_and_capture_errors(needed)
        try:
            await super()._shutdown(side_tasks=[])
        except exceptions.ConnectorException as exc:
            # its row remains, until the start of another worker prunes it
            log.warning("this worker is not unregistered: %r", exc.__cause__)

    def _own_runs(self) -> set[JobAttempt]:
        return {JobAttempt.of(context.job) for context in self._running_jobs.values()}

    def _stop_runs(self, runs: set[JobAttempt], why: str, *, forget: bool = False) -> None:
        for task, context in self._running_jobs.items():
            run = JobAttempt.of(context.job)
            if run in runs and id(context.job) not in self._stopped:
                log.warning("stopping job %s, attempt %s: %s", run.job_id, run.attempt, why)
                self._stopped[id(context.job)] = forget
                # which keeps the object, and so its identity, until then
                task.add_done_callback(partial(self._end_stopped, context.job))
                telemetry.fenced.labels("run stopped").inc()
                task.cancel(why)

    def _end_stopped(self, job: jobs.Job, _task: object) -> None:
        self._stopped.pop(id(job), None)

    async def _mend_pool(self) -> None:
        if self._was_connected:
            await self.app.connector.mend_pool()
        self._was_connected = True
