"""Reading a standby while no leader can be reached.

There is no position to wait for then. What a standby must have instead:

- **all that it has received is replayed**. With synchronous replication a commit is acknowledged when a standby has
  flushed it, which is before it is replayed there;
- **it has received most** of all standbys that answer. Of two standbys one may have confirmed a commit and the other
  not have it; whoever has most has every commit that was acknowledged, if those that confirm answer at all;
- **a mark of the last second before the primary went away is replayed**, so the age of what is read is known.

A standby that was promoted meanwhile, or follows one that was, is read as well: its timeline is a later one."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import NamedTuple

import asyncpg

from erp_service.db.outages import DATABASE_ERRORS
from erp_service.db.replicas import state
from erp_service.db.replicas.hosts import Standby, Standbys
from erp_service.db.replicas.leader_watch import Known, LeaderWatch
from erp_service.db.replicas.state import AWAY, BEHIND, FORKED, Mark, Row

_ANSWER_SECONDS = 0.5  # that all standbys have to answer; beyond it, whichever answers first will do
PATIENCE_SECONDS = 3.0
"""For one step of a read that can go nowhere else: hosts may be busy because another was lost."""

_REPLAY_SECONDS = 1.0
_STILL_SECONDS = 0.25

# The primary sends WAL in whole pages, so what was received may end inside a record, which is never replayed: no commit
# in it was acknowledged. A replay that stands still further from its end than any record is long waits for something
# else, such as a read that conflicts with it.
_LONGEST_RECORD = 256 * 1024

_CHOSEN_SECONDS = 2.0  # for which the standby that had most is not compared with the others again

TOO_LONG_AGO = "No primary was reached for too long."


class Unfit(Exception):
    """The standby must not be read without a leader; the text says why."""


class Candidate(NamedTuple):
    """A standby and how far it is: in timelines first, then in bytes of WAL that it has received."""

    standby: Standby
    timeline: int
    received: int


class Choice:
    """Lets `use` be called with the standby that has most."""

    def __init__(self, standbys: Standbys, leader: LeaderWatch, use: Callable[[Standby], object]) -> None:
        self._standbys, self._leader, self._use = standbys, leader, use
        self._made_at = float("-inf")
        self._survey: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """The standby that was chosen cannot be read."""
        self._made_at = float("-inf")

    async def make(self) -> None:
        """Those who come at the same time share one look at all standbys. Raises Unfit."""
        is_of_now = self._made_at > self._leader.reached_at
        if is_of_now and monotonic() - self._made_at < _CHOSEN_SECONDS:
            return
        if self._survey is None or self._survey.done():
            self._survey = asyncio.create_task(self._look_at_all(), name="standbys")
        if is_of_now:
            # nobody waits again for the servers that are silent
            self._survey.add_done_callback(_retrieved)
            return
        await asyncio.shield(self._survey)

    async def close(self) -> None:
        if self._survey is not None:
            self._survey.cancel()
            await asyncio.wait([self._survey])
            _retrieved(self._survey)

    async def _look_at_all(self) -> None:
        if (known := self._leader.last()) is None:
            raise Unfit(TOO_LONG_AGO)
        best = await survey(self._standbys, known)
        self._use(best.standby)
        self._made_at = monotonic()


def _retrieved(task: asyncio.Task[None]) -> None:
    """Nobody waits for its error, and asyncio must not log it as lost: a read of its own finds it out again."""
    if not task.cancelled():
        task.exception()


async def survey(standbys: Standbys, known: Known) -> Candidate:
    """The standby that has most. The others are left. Raises Unfit if none answers that belongs to this primary."""
    current = standbys.current
    others = [standbys.standby_of(host) for host in standbys.hosts if host != current.host]
    # the current one is the first, and stays unless another has more
    looks = [asyncio.ensure_future(_candidate(standbys, standby, known)) for standby in (current, *others)]
    try:
        found = await _answers(looks)
        if not found:
            raise Unfit(AWAY)
    except BaseException:
        _leave(others)
        raise
    finally:
        for look in looks:
            look.cancel()
    best = max(found, key=lambda candidate: (candidate.timeline, candidate.received))
    _leave(standby for standby in others if standby is not best.standby)
    return best


async def _answers(looks: Sequence[asyncio.Future[Candidate | None]]) -> list[Candidate]:
    """In the order of `looks`."""
    waiting: set[asyncio.Future[Candidate | None]] = set(looks)
    _, waiting = await asyncio.wait(waiting, timeout=_ANSWER_SECONDS)
    while waiting and not any(look.done() and look.result() for look in looks):
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    return [candidate for look in looks if look.done() and (candidate := look.result()) is not None]


def _leave(standbys: Iterable[Standby]) -> None:
    for standby in standbys:
        standby.leave()


async def _candidate(standbys: Standbys, standby: Standby, known: Known) -> Candidate | None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), standby.connection(seconds=PATIENCE_SECONDS) as connection:
            row = await connection.fetchrow(state.ALONE)
    except DATABASE_ERRORS:
        return None
    if state.is_of_another(known.identity, row):
        return None
    timeline = standbys.timeline_of(standby.host, state.newest_timeline(row))
    if timeline < known.mark.timeline:
        return None
    return Candidate(standby, timeline, max(row["received"] or 0, row["position"] or 0))


class Settled(NamedTuple):
    """Positions at which the replay of a standby was seen to stand still."""

    standby: Standby
    position: int
    received: int


class Replayed:
    """Waits until a standby shows all that it has."""

    def __init__(self, standbys: Standbys, leader: LeaderWatch) -> None:
        self._standbys, self._leader = standbys, leader
        self._settled: Settled | None = None

    async def mark(self, standby: Standby, connection: asyncpg.Connection) -> Mark:
        """The newest mark of the primary that the standby shows. Raises Unfit."""
        began = still_since = monotonic()
        position = -1
        while True:
            row = await connection.fetchrow(state.ALONE, timeout=PATIENCE_SECONDS)
            mark = self._fit(standby, row)
            if row["position"] != position:
                position, still_since = row["position"], monotonic()
            if self._is_settled(standby, row, monotonic() - still_since):
                break
            if monotonic() - began > _REPLAY_SECONDS:
                raise Unfit(BEHIND)
            await asyncio.sleep(0.02)
        if mark is None:
            raise Unfit(BEHIND)
        return mark

    def _fit(self, standby: Standby, row: Row) -> Mark | None:
        known = self._leader.last()
        if known is None or state.is_of_another(known.identity, row) or row["position"] is None:
            raise Unfit(AWAY)
        if self._standbys.timeline_of(standby.host, state.newest_timeline(row)) < known.mark.timeline:
            raise Unfit(FORKED)
        return self._leader.last_before(row["position"])

    def _is_settled(self, standby: Standby, row: Row, still: float) -> bool:
        position, received = row["position"], row["received"] or 0
        if not row["recovering"] or position >= received:
            return True
        if row["paused"] or received - position > _LONGEST_RECORD:
            return False
        here = Settled(standby, position, received)
        if self._settled == here:
            # it was waited for already, by an earlier read
            return True
        if still < _STILL_SECONDS:
            return False
        self._settled = here
        return True
