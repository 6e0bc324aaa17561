"""What the primary and a replica say about themselves: how far each is in the WAL, and whether they belong together."""

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

Row = Mapping[str, Any]

# why a replica is not used, as operators see it
UNKNOWN = "It was not looked at yet."
BEHIND = "It is behind."
BUSY = "Its connections are all in use."
AWAY = "It does not answer."
PROMOTED = "It is no replica any more."
ANOTHER = "It is a replica of another database."
FORKED = "It does not follow the primary's present timeline."

_KEPT_POSITIONS = 7200  # of the primary: an hour, at two checks a second

# With synchronous_commit off, a commit is acknowledged before its WAL is flushed: then only the insert position is
# certain to be after it.
_HERE = """
  (select case when current_setting('synchronous_commit') = 'off' then pg_current_wal_insert_lsn()
    else pg_current_wal_flush_lsn() end) as here (lsn)
"""
_MARK = """
select statement_timestamp() as at, pg_wal_lsn_diff(lsn, '0/0')::bigint as position, pg_walfile_name(lsn) as file
"""
_IDENTITY = """
  (select system_identifier from pg_control_system()) as system,
  (select oid::bigint from pg_database where datname = current_database()) as database
"""
MARK = _MARK + "from" + _HERE
"""On the primary: the row of `mark_of`."""

PRIMARY = _MARK + "," + _IDENTITY + "from" + _HERE
"""On the primary: the same, with its identity."""

REPLAYED = """
select pg_is_in_recovery() as recovering, pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint as position
"""
"""On the replica: how far it is."""

# After a switch the control file has the new timeline only from the next restart point on. The WAL receiver has it at
# once, but shows it only to members of pg_monitor.
_TIMELINES = """
  array[
    (select timeline_id from pg_control_checkpoint()),
    (select min_recovery_end_timeline from pg_control_recovery()),
    (select received_tli from pg_stat_wal_receiver)
  ] as timelines
"""
REPLICA = REPLAYED + ", pg_last_xact_replay_timestamp() as replayed_at," + _IDENTITY + "," + _TIMELINES
"""On the replica: the same, with its identity and timelines."""

# The control functions of recovery raise errors outside of it.
ALONE = (
    REPLICA
    + """,
  pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint as received,
  case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end as paused,
  case when not pg_is_in_recovery() then pg_walfile_name(pg_current_wal_insert_lsn()) end as file
"""
)
"""On a replica that may have been promoted: the same, with how much it has received."""


class Mark(NamedTuple):
    """A position of the primary, in bytes of WAL: all that was committed before `at`, by its clock, lies before it."""

    at: datetime
    position: int
    timeline: int


def mark_of(primary: Row) -> Mark:
    return Mark(primary["at"], primary["position"], timeline_of(primary["file"]))


def timeline_of(file: str) -> int:
    """Of a WAL file: the first eight digits of its name."""
    return int(file[:8], 16)


def newest_timeline(alone: Row) -> int:
    """Of the row of ALONE: the timeline that the server leads on, or the newest of those that it follows."""
    return followed(alone) if alone["file"] is None else timeline_of(alone["file"])


def followed(replica: Row) -> int:
    """The newest timeline that a standby shows that it follows."""
    return max((timeline for timeline in replica["timelines"] if timeline is not None), default=0)


def is_of_another(primary: Row, replica: Row) -> bool:
    """Whether it belongs to another cluster, or the address names another database."""
    return bool((replica["system"], replica["database"]) != (primary["system"], primary["database"]))


def mismatch(mark: Mark, primary: Row, replica: Row, newest: int) -> str | None:
    """Why a server cannot be read as a replica of the primary, or None. `newest` is the newest timeline that it was
    ever seen to follow."""
    if not replica["recovering"]:
        return PROMOTED
    if is_of_another(primary, replica):
        return ANOTHER
    if mark.timeline not in (*replica["timelines"], newest):
        return FORKED
    return None


class LagMeter:
    """By how many bytes and seconds the replica is behind.

    The seconds are those for which the primary has been where the replica is not yet, by our own clock. The timestamp
    of the last replayed transaction says less: on a quiet primary it is old although nothing is missing."""

    def __init__(self) -> None:
        self._positions: deque[tuple[float, int]] = deque(maxlen=_KEPT_POSITIONS)

    def note_primary(self, mark: Mark) -> None:
        self._positions.append((monotonic(), mark.position))

    def of(self, mark: Mark, replica: Row) -> tuple[int, float]:
        """Bytes and seconds. `mark` is the last that was noted."""
        size = max(0, mark.position - (replica["position"] or 0))
        return size, self._seconds(mark, replica) if size else 0.0

    def _seconds(self, mark: Mark, replica: Row) -> float:
        for at, position in reversed(self._positions):
            if position <= (replica["position"] or 0):
                return monotonic() - at
        # it is further behind than the first position that we noted
        since_first = monotonic() - self._positions[0][0]
        replayed_at = replica["replayed_at"]
        return since_first if replayed_at is None else max(since_first, (mark.at - replayed_at).total_seconds())
