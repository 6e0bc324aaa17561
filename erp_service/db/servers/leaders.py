"""Which server leads, and what this process must not use any more.

**Who leads** is asked of the server itself, on each new connection: a standby accepts connections and answers
`select 1`, and so does a primary that was demoted. (A service whose pool only pinged stayed on a demoted server for
three days: gpustack issue #6105. What Patroni's REST interface says may be early: patroni issue #2972.)

**No way back.** Two servers may both think that they lead: one that is cut off, until its lease ends, or one that comes
back with writes of its own. Each promotion begins a timeline with a greater number. A process that has met a leader
never uses one on an older timeline again, and as soon as one of its connections finds a newer timeline, all those to
the older one are terminated: of the pools, LISTEN, COPY, locks and the queue.

Between two instances, of which one does not know yet, that is no proof. There synchronous replication excludes two: a
leader that is cut off can acknowledge nothing, since no standby confirms it (`WriteSession.commit`)."""

from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from erp_service.db.servers.addresses import Host
from erp_service.observability import telemetry

STANDING = """
select system_identifier as system, pg_is_in_recovery() as recovering,
  current_setting('transaction_read_only') = 'on' as read_only,
  case when not pg_is_in_recovery() then pg_walfile_name(pg_current_wal_insert_lsn()) end as file
from pg_control_system()
"""
"""The row of `Standing.of`, on a primary and on a standby."""


TRIED_SECONDS = 30.0
"""After so long without another attempt it is not known any more that no leader can be reached."""


class NotLeading(ConnectionError):
    """The server answers, and must not be used: it is a standby, refuses writes, or leads on an older timeline."""


class Standing(NamedTuple):
    """What a server says of itself. `system` is the number that initdb gave to the cluster; it has no timeline of its
    own while it recovers."""

    system: int
    timeline: int | None
    read_only: bool

    @classmethod
    def of(cls, system: int, recovering: bool, read_only: bool, file: str | None) -> "Standing":
        # the first eight digits in the name of a WAL file are the timeline
        return cls(system, None if recovering or file is None else int(file[:8], 16), read_only)


class Leaders:
    """The newest timeline of each cluster that this process has met, and its connections to leaders."""

    def __init__(self) -> None:
        self._timelines: dict[int, int] = {}
        self._connections: WeakKeyDictionary[Any, tuple[Standing, Callable[[Any], object]]] = WeakKeyDictionary()
        self._last: dict[tuple[Host, ...], Host] = {}
        self._missing_since: float | None = None
        self._tried_at = 0.0

    def last(self, hosts: tuple[Host, ...]) -> Host | None:
        """The one of the hosts that led when a connection was opened last."""
        return self._last.get(hosts)

    def in_order(self, hosts: tuple[Host, ...]) -> tuple[Host, ...]:
        """The hosts, the one that led last before the others."""
        last = self.last(hosts)
        return hosts if last is None else (last, *(host for host in hosts if host != last))

    def admit(self, connection: Any, standing: Standing, leave: Callable[[Any], object]) -> None:
        """Count a connection to the leader. `leave(connection)` is called when a newer leader is met, and ends it.

        Raises NotLeading, also for a leader that is not the newest."""
        if standing.timeline is None:
            raise NotLeading("it is a standby")
        newest = self._timelines.get(standing.system, 0)
        if standing.timeline < newest:
            telemetry.older_leaders_refused.inc()
            raise NotLeading(f"it leads on timeline {standing.timeline}, and another on timeline {newest}")
        self._connections[connection] = standing, leave
        if standing.timeline > newest:
            self._timelines[standing.system] = standing.timeline
            telemetry.leader_timeline.set(standing.timeline)
            if newest:
                telemetry.leader_changes.inc()
                self._leave_older(standing)

    def note_host(self, hosts: tuple[Host, ...], host: Host) -> None:
        """This one of the hosts led just now."""
        self._missing_since = None
        if (last := self.last(hosts)) != host:
            self._last[hosts] = host
            if last is not None:
                telemetry.leader.labels(last).set(0)
            telemetry.leader.labels(host).set(1)

    def note_missing(self) -> None:
        """No connection to a leader could be opened just now."""
        self._tried_at = monotonic()
        if self._missing_since is None:
            self._missing_since = self._tried_at

    def missing_seconds(self) -> float:
        """For how long none could be opened; 0 as well if that was not tried for TRIED_SECONDS, as while the
        connections that there are suffice."""
        now = monotonic()
        if self._missing_since is None or now - self._tried_at > TRIED_SECONDS:
            return 0.0
        return now - self._missing_since

    def _leave_older(self, leader: Standing) -> None:
        older = [
            (connection, leave)
            for connection, (to, leave) in self._connections.items()
            if to.system == leader.system and to.timeline != leader.timeline
        ]
        telemetry.log.warning("another server leads", timeline=leader.timeline, connections_left=len(older))
        telemetry.connections_left.labels("older").inc(len(older))
        for connection, leave in older:
            leave(connection)


LEADERS = Leaders()
"""Of this process."""

telemetry.leader_missing_seconds.set_function(LEADERS.missing_seconds)
