"""Pauses between attempts: short after the first failure, longer while failures go on.

Here, because most of what is tried again is a connection to the database."""

_MOST_DOUBLINGS = 64  # a server may be unavailable for a week, and a float overflows at 1024


class Backoff:
    """Each pause is twice the one before, up to `longest`; both are in seconds.

    With `at_once` the first attempt after a success follows without a pause."""

    def __init__(self, first: float, longest: float, *, at_once: bool = False) -> None:
        self._first, self._longest = first, longest
        self._failures_without_pause = int(at_once)
        self._failures = 0

    def next(self) -> float:
        """The pause after one more failure."""
        self._failures += 1
        return self.after(self._failures)

    def after(self, failures: int) -> float:
        """The pause after so many failures in a row, for a caller that keeps the count itself; the first is 1."""
        doublings = failures - 1 - self._failures_without_pause
        return 0.0 if doublings < 0 else min(self._first * 2 ** min(doublings, _MOST_DOUBLINGS), self._longest)

    def reset(self) -> None:
        """After a success."""
        self._failures = 0
