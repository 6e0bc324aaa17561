"""What the clients were told, and when: all of it, so that a failover's figures can be read off afterwards."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from time import monotonic
from typing import NamedTuple

CUT_OFF = 0
"""In place of a status: the connection was refused or lost, or the answer took too long."""

ANSWERED_BY_OUTAGES = (CUT_OFF, 409, 429, 502, 503, 504)
"""What a client asks again after (409 only if its first request is still running)."""


class Answer(NamedTuple):
    """One attempt's. `at` and `seconds` are of the monotonic clock, as all times here."""

    at: float
    what: str
    status: int
    seconds: float


class Failure(NamedTuple):
    """A request that its client gave up, or an answer that is wrong."""

    at: float
    said: str


class Journal:
    """Of all clients. Times ascend in each list, because each is written when the answer comes."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.postings: dict[str, str] = {}
        """Acknowledged: the id of the transaction by the Idempotency-Key, which the entry states as its notes."""
        self.unknown: set[str] = set()
        """Keys of postings that were given up: they may have an effect or none."""
        self.posted_at: list[float] = []
        self.read_at: list[float] = []
        self.reported_at: list[float] = []
        self.exports: list[str] = []
        self.failures: list[Failure] = []

    def fail(self, said: str) -> None:
        self.failures.append(Failure(monotonic(), said))

    def failed_since(self, began: float) -> list[str]:
        return [failure.said for failure in self.failures if failure.at >= began]

    def statuses(self, began: float, *, reports: bool) -> Counter[int]:
        """Of the answers since then: of report readers, who ask once, or of all others."""
        first = bisect_left(self.answers, began, key=lambda answer: answer.at)
        return Counter(answer.status for answer in self.answers[first:] if (answer.what == "report") == reports)

    def posted_since(self, began: float) -> int:
        return len(self.posted_at) - bisect_left(self.posted_at, began)


def longest_gap(times: Sequence[float], began: float, ended: float) -> float:
    """Seconds of the longest time from one of `times` to the next, of those that touch the span."""
    first, last = max(0, bisect_right(times, began) - 1), bisect_left(times, ended) + 1
    # a gap that lasts until now has no end yet
    around = [*times[first:last], *([ended] if last > len(times) else [])]
    return max((later - earlier for earlier, later in pairwise(around)), default=0.0)
