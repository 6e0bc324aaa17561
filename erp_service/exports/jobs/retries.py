"""When the queue tries a job of exports or imports again."""

from procrastinate import RetryDecision, jobs
from procrastinate.retry import BaseRetryStrategy

from erp_service.db.outages import is_unavailable
from erp_service.exports.run import store_failures
from erp_service.exports.run.store_failures import StoreRetry
from erp_service.queue.attempts import JobAttempt

_OUTAGE_PAUSE = 2  # seconds
_MOST_RETRIES = 100


class Outages(BaseRetryStrategy):
    """Retries soon if the database was unavailable, and after growing pauses if the store was. Every other error has
    already been written into the job's own row."""

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
        number = JobAttempt.of(job).attempt
        if isinstance(exception, StoreRetry):
            return RetryDecision(retry_in={"seconds": store_failures.pause(number)})
        if is_unavailable(exception) and number <= _MOST_RETRIES:
            return RetryDecision(retry_in={"seconds": _OUTAGE_PAUSE})
        return None
