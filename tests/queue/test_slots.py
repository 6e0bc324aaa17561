"""Which queues a worker fetches from, by what it runs at that moment."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from procrastinate import Blueprint

from erp_service.queue.connector import WorkerConnector
from erp_service.queue.worker import HardenedApp

tasks = Blueprint()


@tasks.task(name="slots:other", queue="other")
async def other() -> None:
    """Of a queue that has no share."""


def fetched(running: Mapping[str, int], *, own: Mapping[str, int]) -> list[str] | None:
    """With three slots that `large`, `small` and `other` share."""
    app = HardenedApp(
        connector=WorkerConnector("postgresql://nobody@nowhere/nothing"),
        concurrency=3 + sum(own.values()),
        at_most={"large": 1, "small": 3, **own},
        own=own,
    )
    app.gather(tasks)
    worker = app._worker()
    names = [queue for queue, jobs in running.items() for _ in range(jobs)]
    contexts = {number: SimpleNamespace(job=SimpleNamespace(queue=queue)) for number, queue in enumerate(names)}
    worker._running_jobs = cast(Any, contexts)
    # upstream has a queue for tasks of its own
    return None if worker.queues is None else sorted({*worker.queues} - {"builtin"})


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        ({}, None),
        ({"large": 1}, ["hooks", "other", "small"]),
        ({"large": 1, "small": 1}, ["hooks", "other", "small"]),
        # the shared slots are taken, whoever took them
        ({"large": 1, "small": 2}, ["hooks"]),
        ({"other": 3}, ["hooks"]),
        ({"small": 3, "hooks": 1}, ["hooks"]),
        ({"small": 3, "hooks": 2}, []),
        # the slots of a queue alone are taken, and nobody else lacks one
        ({"hooks": 2}, ["large", "other", "small"]),
        ({"hooks": 2, "small": 2}, ["large", "other", "small"]),
    ],
)
def test_slots_of_one_queue_alone(running: Mapping[str, int], expected: list[str] | None) -> None:
    assert fetched(running, own={"hooks": 2}) == expected


@pytest.mark.parametrize(
    ("running", "expected"),
    [({}, None), ({"large": 1, "small": 2}, ["other", "small"]), ({"small": 3}, ["large", "other"])],
)
def test_without_such_a_queue_only_full_ones_are_left_out(
    running: Mapping[str, int], expected: list[str] | None
) -> None:
    assert fetched(running, own={}) == expected
