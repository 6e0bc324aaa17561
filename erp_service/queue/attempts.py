"""The number of an attempt at a job, by which a fence knows it."""

from typing import NamedTuple, Protocol


class QueueJob(Protocol):
    """The part of Procrastinate's Job that says which attempt it is."""

    @property
    def id(self) -> int | None: ...

    @property
    def attempts(self) -> int: ...


class JobAttempt(NamedTuple):
    """One attempt at one job of the queue: what a fence compares. `attempt` counts from 1.

    Procrastinate's column `attempts` counts the retries before this attempt, so it begins at 0. Only `of_row` and
    `attempts` convert between the two numbers; SQL compares the column with `attempts`."""

    job_id: int
    attempt: int

    @classmethod
    def of(cls, job: QueueJob) -> "JobAttempt":
        """Raises ValueError for a job without an id, which was never deferred."""
        if job.id is None:
            raise ValueError("a job that was never deferred has no attempt")
        return cls.of_row(job.id, job.attempts)

    @classmethod
    def of_row(cls, job_id: int, attempts: int) -> "JobAttempt":
        return cls(job_id, attempts + 1)

    @property
    def attempts(self) -> int:
        """The value of Procrastinate's column during this attempt."""
        return self.attempt - 1
