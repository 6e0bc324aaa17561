"""Procrastinate's app and worker, made to outlive what stock 3.10 does not.

Every private method overridden here is named in tests/queue/test_contract.py, which holds it against the installed
version. Overridden: App._worker; Worker.queues, _update_heartbeat, _periodic_deferrer, _monitor_side_tasks,
_handle_notification, _fetch_and_process_jobs, _process_job, _persist_job_status, _shutdown."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from enum import Enum
from typing import Any, Unpack

import procrastinate
from procrastinate import blueprints, exceptions, job_context, jobs, retry, utils, worker
from procrastinate.app import WorkerOptions

from erp_service.observability import telemetry
from erp_service.queue.connector import JoiningConnector
from erp_service.queue.fencing import FencedJobManager, JobAttempt
from erp_service.queue.rescue import Lifeline, Timeouts
from erp_service.registry.services import ServiceSet

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
ABORT_POLL_SECONDS = 1.0
# Side tasks that a drain needs: its jobs must look alive, and a cancel must still reach them
NEEDED_TO_THE_END = {"update_heartbeats", "poll_jobs_to_abort", "listener"}


class WorkerFailed(exceptions.ProcrastinateException):
    """The worker stopped because a part of it failed; see the log."""


class Stop(Enum):
    """Why a task sees CancelledError."""

    CANCELED = "somebody canceled the job"
    SHUTDOWN = "this worker shuts down; the job goes back to the queue"
    TAKEN_OVER = "this run is no longer the job's own; write nothing more"


def stopped_by(context: job_context.JobContext) -> Stop:
    """For a task that caught CancelledError and wants to leave the right trace. It must raise it again."""
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
    """The queue of one process. Open it to run a worker; to defer in a transaction it can stay closed.

    `grace_seconds` is how long a drain waits for running jobs before they go back to the queue.
    `at_most` is how many jobs of a queue one worker runs at once, so that others find a slot beside them; it names
    every queue that is no task's own. `beside` runs as long as a worker does, needs no slot, and never ends by itself.
    """

    connector: JoiningConnector

    def __init__(
        self,
        *,
        connector: JoiningConnector,
        timeouts: Timeouts | None = None,
        concurrency: int = 4,
        grace_seconds: float = 20,
        at_most: Mapping[str, int] | None = None,
        beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
        services: ServiceSet | None = None,
        import_paths: Iterable[str] | None = None,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self.at_most = at_most or {}
        self.beside = beside
        defaults: WorkerOptions = {
            "concurrency": concurrency,
            "shutdown_graceful_timeout": grace_seconds,
            "abort_job_polling_interval": ABORT_POLL_SECONDS,
            "update_heartbeat_interval": self.timeouts.heartbeat,
            # Pruning only tidies up: what a silent worker ran was rescued long before
            "stalled_worker_timeout": max(60.0, 10 * self.timeouts.stalled),
            # The features' own rows are the record
            "delete_jobs": "successful",
            # in the defaults, since `procrastinate worker` calls no code of ours that could pass it
            "additional_context": {"services": services},
        }
        super().__init__(connector=connector, import_paths=import_paths, worker_defaults=defaults)
        self.job_manager = FencedJobManager(connector)

    def gather(self, *features: blueprints.Blueprint) -> None:
        """Take over each feature's tasks under the names they declare.

        Upstream's add_tasks_from renames the blueprint's tasks, so a second app in one process gets other names.
        Raises TaskAlreadyRegistered."""
        for feature in features:
            if taken := self.tasks.keys() & feature.tasks.keys():
                raise exceptions.TaskAlreadyRegistered(f"more than one task is named {', '.join(sorted(taken))}")
            self.tasks.update(feature.tasks)
            for task in feature.tasks.values():
                task.blueprint = self
            self.periodic_registry.periodic_tasks.update(feature.periodic_registry.periodic_tasks)

    def _worker(self, **options: Unpack[WorkerOptions]) -> "HardenedWorker":
        """The command line comes through here, so `procrastinate --app=... worker` runs the hardened one."""
        merged: WorkerOptions = {**self.worker_defaults, **options}
        return HardenedWorker(self, **merged)


class HardenedWorker(worker.Worker):
    app: HardenedApp

    def __init__(self, app: HardenedApp, **options: Unpack[WorkerOptions]) -> None:
        super().__init__(app, **options)
        self.failed = False
        self._stopped: set[JobAttempt] = set()
        self._was_connected = False
        self._heard = 0
        self._lifeline = Lifeline(
            app.connector.url,
            app.timeouts,
            running=self._runs,
            stop=self._stop_runs,
            came_back=self._mend,
        )

    async def run(self) -> None:
        """Raises WorkerFailed, so that the exit status tells a supervisor the truth (upstream: 0)."""
        beside = [asyncio.create_task(self.app.beside(), name="beside")] if self.app.beside else []
        try:
            await super().run()  # type: ignore[no-untyped-call]
        finally:
            await utils.cancel_and_capture_errors(beside)
        if self.failed:
            raise WorkerFailed

    @property
    def queues(self) -> Iterable[str] | None:
        """What to fetch from at this moment: not from a queue that has its `at_most` running here."""
        running = Counter(context.job.queue for context in self._running_jobs.values())
        full = {queue for queue, most in self.app.at_most.items() if running[queue] >= most}
        if not full:
            return self._asked
        known = self._asked or {*self.app.at_most, *(task.queue for task in self.app.tasks.values())}
        return sorted({*known} - full)

    @queues.setter
    def queues(self, asked: Iterable[str] | None) -> None:
        self._asked = asked

    async def _process_job(self, context: job_context.JobContext) -> None:
        """Once it has left, its queue is no longer full: upstream would look again at the next poll."""
        task = asyncio.current_task()
        if task is not None and context.job.queue in self.app.at_most:
            task.add_done_callback(self._look_again)
        await super()._process_job(context)

    def _look_again(self, _task: object) -> None:
        self._heard += 1
        self._new_job_event.set()

    async def _update_heartbeat(self) -> None:
        """Upstream's beat ends with the first outage, and waits for a connection that busy jobs may all have."""
        if self.worker_id is None:
            raise RuntimeError("a worker beats only once it is registered")
        await self._lifeline.hold(self.worker_id)

    async def _periodic_deferrer(self) -> None:
        """Issue #1116: upstream's ends at the first outage, and with it the worker."""
        while True:
            try:
                await super()._periodic_deferrer()  # type: ignore[no-untyped-call]
            except exceptions.ConnectorException as exc:
                log.warning("periodic jobs are not deferred, trying again: %r", exc.__cause__)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _monitor_side_tasks(self, side_tasks: list[asyncio.Task[Any]]) -> None:
        """Issue #1597: upstream's ends with the first side task, which without periodic jobs is at the start."""
        pending = set(side_tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and (exc := task.exception()):
                    log.error("%s failed, so the worker stops", task.get_name(), exc_info=exc)
                    self.failed = True
                    self.stop()  # type: ignore[no-untyped-call]

    async def _handle_notification(self, *, channel: str, notification: jobs.Notification) -> None:
        """Counts the notices, so that `_fetch_and_process_jobs` knows of those that came while it fetched."""
        self._heard += 1
        await super()._handle_notification(channel=channel, notification=notification)

    async def _fetch_and_process_jobs(self) -> None:
        """Fetch only while the lock is held, or the job would look abandoned; an outage is no reason to die.

        Upstream forgets, after each fetch, every notice that came during it, and the job of that notice, which the
        fetch may not have seen, waits for the next poll. So look again."""
        heard = self._heard
        try:
            await utils.wait_any(self._lifeline.held.wait(), self._stop_event.wait())
            await super()._fetch_and_process_jobs()  # type: ignore[no-untyped-call]
        except exceptions.ConnectorException as exc:
            if not self.wait:
                raise
            log.warning("no job can be fetched, trying again: %r", exc.__cause__)
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._new_job_event.set)
        if self._heard != heard:
            self._new_job_event.set()

    async def _persist_job_status(
        self,
        job: jobs.Job,
        status: jobs.Status,
        retry_decision: retry.RetryDecision | None,
        context: job_context.JobContext,
        job_result: job_context.JobResult | None,
    ) -> None:
        """A run that this worker cut short goes back to the queue (upstream: aborted, so its work is lost), also if
        it answered its cancellation with an error of its own. Whether it is still ours to put back, the fence knows.
        """
        run = JobAttempt.of(job)
        cut_short = run in self._stopped or stopped_by(context) is Stop.SHUTDOWN
        if cut_short and status is not jobs.Status.SUCCEEDED:
            retry_decision = retry_decision or retry.RetryDecision()
        try:
            await super()._persist_job_status(job, status, retry_decision, context, job_result)
        except (exceptions.ConnectorException, asyncio.CancelledError) as exc:
            log.error("the end of job %s is not written: %r", job.id, exc.__cause__ or exc)
            # The others will find it; but a drain that leaves work behind is none, and the exit status says so
            self.failed = self.failed or self._lifeline.draining
            if isinstance(exc, asyncio.CancelledError):
                raise
        finally:
            self._stopped.discard(run)
            # Kept after a failed write, it would abort the job's next run here before it began
            self._job_ids_to_abort.pop(run.job_id, None)

    async def _shutdown(self, side_tasks: list[asyncio.Task[Any]]) -> None:
        """PR #1585: upstream ends heartbeat and listener first, so a long drain is rescued and run twice, and a
        cancel goes unheard."""
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
            # What is left is a row that the start of another worker prunes
            log.warning("this worker could not take its leave: %r", exc.__cause__)

    def _runs(self) -> set[JobAttempt]:
        return {JobAttempt.of(context.job) for context in self._running_jobs.values()}

    def _stop_runs(self, runs: set[JobAttempt], why: str) -> None:
        for task, context in self._running_jobs.items():
            run = JobAttempt.of(context.job)
            if run in runs and run not in self._stopped:
                log.warning("stopping job %s, attempt %s: %s", run.job_id, run.attempt, why)
                self._stopped.add(run)
                telemetry.fenced.labels("run stopped").inc()
                task.cancel(why)

    async def _mend(self) -> None:
        if self._was_connected:
            await self.app.connector.mend_pool()
        self._was_connected = True
