"""Opens connections to one of the hosts of an address: to the one that leads, or to any that answers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg

from erp_service.db.outages import DATABASE_ERRORS, is_unavailable
from erp_service.db.servers.addresses import Address, Host, arguments_of
from erp_service.db.servers.leaders import LEADERS, STANDING, NotLeading, Standing

CONNECT_SECONDS = 5.0
"""For all hosts together."""

NEXT_HOST_SECONDS = 0.25
"""After so long without an answer the next host is tried beside the first, which may be silent (as in RFC 8305)."""


AGAIN_SECONDS = 0.5
"""After so long the hosts that refused are tried again, if others are silent: one of them may have been promoted."""

MEET_SECONDS = 1.0
"""For the hosts of an address of which no leader is known."""


class Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg has no types
    """May be terminated by another task between two steps of a statement, as when a newer leader is met: asyncpg raises
    an AttributeError then, since its protocol is gone. Here that is a lost connection."""

    __slots__ = ()

    async def _do_execute(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super()._do_execute(*arguments, **options)
        except AttributeError as exc:
            if not self.is_closed():
                raise
            raise asyncpg.ConnectionDoesNotExistError("the connection was terminated meanwhile") from exc


class Opened(NamedTuple):
    connection: asyncpg.Connection
    host: Host


async def open_leader(address: Address, **arguments: Any) -> asyncpg.Connection:
    """A connection to the leader, with further arguments of asyncpg. It is terminated when a newer leader is met.

    Raises what asyncpg raises; NotLeading, if only standbys answer; ConnectionError, which says of each of several
    hosts why not. A refusal that time does not change, such as a wrong password, comes before those that it may."""

    async def open_one(host: Host) -> Opened:
        async with _opened(address, host, arguments) as connection:
            row = await connection.fetchrow(STANDING)
            standing = Standing.of(**row)
            if standing.read_only and address.target == "read-write":
                raise NotLeading("it refuses writes (default_transaction_read_only)")
            LEADERS.admit(connection, standing, _terminate)
            return Opened(connection, host)

    if len(address.hosts) > 1 and LEADERS.last(address.hosts) is None:
        await _meet(address.hosts, open_one)
    try:
        connection, host = await _race(LEADERS.in_order(address.hosts), open_one)
    except DATABASE_ERRORS:
        LEADERS.note_missing()
        raise
    LEADERS.note_host(address.hosts, host)
    return connection


async def open_any(address: Address, **arguments: Any) -> asyncpg.Connection:
    """A connection to whichever host answers first, with further arguments of asyncpg. Raises as `open_leader`."""

    async def open_one(host: Host) -> Opened:
        async with _opened(address, host, arguments) as connection:
            return Opened(connection, host)

    return (await _race(address.hosts, open_one)).connection


@asynccontextmanager
async def _opened(address: Address, host: Host, arguments: dict[str, Any]) -> AsyncIterator[asyncpg.Connection]:
    """Terminated if the body raises: it may be cancelled because another host has answered first."""
    given = {"connection_class": Connection, **arguments_of(address, host), **arguments}
    connection = await asyncpg.connect(timeout=CONNECT_SECONDS, **given)
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise


def _terminate(connection: asyncpg.Connection) -> None:
    if not connection.is_closed():
        connection.terminate()


async def _meet(hosts: tuple[Host, ...], open_one: Callable[[Host], Awaitable[Opened]]) -> None:
    """Ask all hosts, and not only the first that leads: if two do, that must be the newer one also for a process that
    has just started."""
    tasks = [asyncio.ensure_future(open_one(host)) for host in hosts]
    try:
        done, _ = await asyncio.wait(tasks, timeout=MEET_SECONDS)
        for task in done:
            # the connection to an older leader was terminated when the newer one was met
            if task.exception() is None and not task.result().connection.is_closed():
                LEADERS.note_host(hosts, task.result().host)
    finally:
        for task in tasks:
            task.cancel()
            task.add_done_callback(_drop)


async def _race(hosts: Sequence[Host], open_one: Callable[[Host], Awaitable[Opened]]) -> Opened:
    """The first that opens. The next host is tried when one has failed, and beside those that are silent. As long as
    some are silent, those that have failed are tried again."""
    waiting, tasks, faults = deque(hosts), dict[asyncio.Task[Opened], Host](), dict[Host, BaseException]()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            while waiting or tasks:
                if waiting:
                    host = waiting.popleft()
                    tasks[asyncio.ensure_future(open_one(host))] = host
                pause = NEXT_HOST_SECONDS if waiting else AGAIN_SECONDS
                done, _ = await asyncio.wait(tasks, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    host = tasks.pop(task)
                    if (fault := task.exception()) is None:
                        return task.result()
                    faults[host] = fault
                if not done and not waiting:
                    waiting.extend(host for host in faults if host not in tasks.values())
    except TimeoutError:
        faults |= {host: TimeoutError("no answer in time") for host in tasks.values()}
    finally:
        for task in tasks:
            task.cancel()
            task.add_done_callback(_drop)
    raise _fault_of(faults)


def _drop(task: asyncio.Task[Opened]) -> None:
    """Of a host that answered as late as another."""
    if not task.cancelled() and task.exception() is None:
        _terminate(task.result().connection)


def _fault_of(faults: Mapping[Host, BaseException]) -> BaseException:
    if len(faults) == 1 or not any(is_unavailable(fault) for fault in faults.values()):
        return next(iter(faults.values()))
    told = "; ".join(f"{host}: {str(fault) or type(fault).__name__}" for host, fault in faults.items())
    kind = NotLeading if all(isinstance(fault, NotLeading) for fault in faults.values()) else ConnectionError
    return kind(told)
