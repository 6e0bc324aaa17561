"""What of Procrastinate the hardened queue overrides or leans on, held against the installed version.

If one of these fails after an upgrade: read upstream's changes to that part, then the override and its reason, and
only then change the line here."""

import inspect
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from procrastinate import App, PsycopgConnector, manager
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.jobs import Job
from procrastinate.schema import SchemaManager
from procrastinate.sql import queries
from procrastinate.utils import cancel_and_capture_errors, wait_any
from procrastinate.worker import Worker

import erp_service
from erp_service.queue.connector import WorkerConnector
from erp_service.queue.fencing import FencedJobManager
from erp_service.queue.worker import NEEDED_TO_THE_END, HardenedApp, HardenedWorker

UPGRADED = "Procrastinate is {}: the hardened queue is checked against 3.10 only; see this module's docstring."

OVERRIDDEN = {
    (HardenedApp, App, "_worker"): ["self", "**kwargs"],
    (HardenedWorker, Worker, "run"): ["self"],
    (HardenedWorker, Worker, "_update_heartbeat"): ["self"],
    (HardenedWorker, Worker, "_periodic_deferrer"): ["self"],
    (HardenedWorker, Worker, "_monitor_side_tasks"): ["self", "side_tasks"],
    (HardenedWorker, Worker, "_handle_notification"): ["self", "channel", "notification"],
    (HardenedWorker, Worker, "_fetch_and_process_jobs"): ["self"],
    (HardenedWorker, Worker, "_process_job"): ["self", "context"],
    (HardenedWorker, Worker, "_persist_job_status"): [
        *["self", "job", "status", "retry_decision", "context", "job_result"]
    ],
    (HardenedWorker, Worker, "_shutdown"): ["self", "side_tasks"],
    (FencedJobManager, manager.JobManager, "finish_job"): ["self", "job", "status", "delete_job"],
    (FencedJobManager, manager.JobManager, "retry_job"): ["self", "job", "retry_at", "priority", "queue", "lock"],
    (FencedJobManager, manager.JobManager, "prune_stalled_workers"): ["self", "seconds_since_heartbeat"],
    (FencedJobManager, manager.JobManager, "register_worker"): ["self"],
    (WorkerConnector, PsycopgConnector, "_get_cursor"): ["self", "connection"],
    (WorkerConnector, PsycopgConnector, "listen_notify"): ["self", "on_notification", "channels"],
}

# What an override calls or reads, and where upstream must still behave as the override expects
LEANED_ON = {
    (PsycopgConnector, "_create_pool"): ["self._pool_factory(", "check="],
    (PsycopgConnector, "execute_query_all_async"): ["self._get_cursor() as cursor"],
    (Worker, "run"): ["register_worker", "prune_stalled_workers", "_run_loop"],
    (Worker, "_run_loop"): ["_start_side_tasks", "_monitor_side_tasks(side_tasks)", "_shutdown(side_tasks=side_tasks)"],
    (Worker, "_start_side_tasks"): [
        *["self._update_heartbeat()", "self._periodic_deferrer()", "self._poll_jobs_to_abort()", "listen_for_jobs"],
        *[f'name="{name}"' for name in NEEDED_TO_THE_END],
    ],
    (Worker, "__init__"): ["self.queues = queues"],
    (Worker, "_fetch_and_process_jobs"): [
        *["_running_jobs[job_task] = context", "_job_ids_to_abort.get(job_id)", "queues=self.queues"],
        # first upstream's callback, which removes the job, then ours, which fetches again
        *["job_task.add_done_callback(on_job_complete)", "del self._running_jobs[task]"],
    ],
    (Worker, "_process_job"): ["_persist_job_status(", "retry_decision=retry_decision", "asyncio.shield"],
    (Worker, "_persist_job_status"): ["job_manager.retry_job", "job_manager.finish_job", "_job_ids_to_abort.pop"],
    (Worker, "_abort_running_jobs"): ["AbortReason.SHUTDOWN"],
    (Worker, "_handle_abort_jobs_requested"): ["AbortReason.USER_REQUEST"],
    (Worker, "_handle_notification"): ["_new_job_event.set()", '"job_inserted"'],
    (Worker, "_shutdown"): ["unregister_worker(self.worker_id)", "if self._running_jobs"],
    (App, "run_worker_async"): ["self._worker(**kwargs)", "worker.run()"],
}


def parameters(method: Callable[..., object]) -> list[str]:
    """The names of the parameters, with stars; without types, since upstream has fewer than we do."""
    kinds: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [kinds.get(p.kind, "") + name for name, p in inspect.signature(method).parameters.items()]


def test_version_is_the_one_that_was_read() -> None:
    installed = version("procrastinate")
    assert re.match(r"3\.10(\.|$)", installed), UPGRADED.format(installed)


@pytest.mark.parametrize(("ours", "theirs", "name"), OVERRIDDEN, ids=lambda part: getattr(part, "__name__", part))
def test_what_is_overridden_is_there_and_takes_what_it_took(ours: type, theirs: type, name: str) -> None:
    upstream = getattr(theirs, name, None)
    assert upstream is not None, f"{theirs.__name__}.{name} is gone, and our override with it is dead code"
    assert getattr(ours, name) is not upstream
    assert parameters(inspect.unwrap(upstream)) == OVERRIDDEN[ours, theirs, name]
    if theirs is not App:
        expected = [part.replace("**kwargs", "**options") for part in OVERRIDDEN[ours, theirs, name]]
        assert parameters(getattr(ours, name)) == expected


def test_every_override_is_listed() -> None:
    for ours, theirs in {(ours, theirs) for ours, theirs, _ in OVERRIDDEN}:
        overridden = {
            name
            for name in vars(ours)
            if callable(getattr(ours, name)) and hasattr(theirs, name) and name not in {"__init__", "__doc__"}
        }
        assert overridden == {name for cls, _, name in OVERRIDDEN if cls is ours}, ours.__name__


@pytest.mark.parametrize(("owner", "name"), LEANED_ON, ids=lambda part: getattr(part, "__name__", part))
def test_what_is_leaned_on_still_does_what_it_did(owner: type, name: str) -> None:
    source = inspect.getsource(getattr(owner, name))
    for part in LEANED_ON[owner, name]:
        assert part in source, f"{owner.__name__}.{name} no longer has {part!r}"


def test_functions_of_the_schema_are_the_ones_that_our_statements_call() -> None:
    assert "procrastinate_finish_job_v1(" in queries["finish_job"]
    assert "procrastinate_retry_job_v2(" in queries["retry_job"]
    assert manager.get_channel_for_queues() == ["procrastinate_any_queue_v1"]
    assert manager.get_channel_for_queues(["q"]) == ["procrastinate_queue_v1#q"]


def test_functions_with_which_jobs_join_a_transaction_take_what_they_took() -> None:
    """queue/jobs.py calls them with these values in this order."""
    assert "procrastinate_defer_jobs_v1(" in queries["defer_jobs"]
    assert "procrastinate_cancel_job_v1(%(job_id)s, %(abort)s, %(delete_job)s)" in queries["cancel_job"]
    row = re.search(r"CREATE TYPE procrastinate_job_to_defer_v1 AS \((.*?)\)", SchemaManager.get_schema(), re.DOTALL)
    assert row is not None
    fields = [line.split()[0] for line in row[1].strip().splitlines()]
    assert fields == ["queue_name", "task_name", "priority", "lock", "queueing_lock", "args", "scheduled_at"]


def test_parts_of_jobs_and_helpers_are_there() -> None:
    assert {"id", "attempts", "worker_id"} <= {field.name for field in Job.__attrs_attrs__}
    assert {"job", "abort_reason"} <= {field.name for field in JobContext.__attrs_attrs__}
    assert {reason.name for reason in AbortReason} == {"USER_REQUEST", "SHUTDOWN"}
    assert parameters(cancel_and_capture_errors) == ["tasks"]
    assert parameters(wait_any) == ["*coros_or_futures"]


def test_overrides_are_few_and_each_says_why() -> None:
    """An upgrade has to be checked against this list: see also test_every_override_is_listed."""
    ours = [getattr(cls, name) for cls, _, name in OVERRIDDEN]
    assert [method.__qualname__ for method in ours if not method.__doc__] == []
    assert sum(len(inspect.getsource(method).splitlines()) for method in ours) < 300


def test_private_parts_of_upstream_are_touched_in_this_package_only() -> None:
    private = {name for _, _, name in OVERRIDDEN if name.startswith("_")}
    package = Path(erp_service.__file__).parent
    strangers = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if file.parent.name != "queue" and any(f"def {name}(" in file.read_text() for name in private)
    }
    assert strangers == set()
