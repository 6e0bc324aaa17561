"""Connections to Postgres: their addresses, how each side notices that the other is gone, and the wait for a server."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import msgspec

from erp_service.db.backoff import Backoff
from erp_service.db.outages import CONNECTION_ERRORS, DATABASE_ERRORS, is_unavailable, is_warning
from erp_service.db.servers.addresses import parse
from erp_service.db.servers.opening import Connection, open_any, open_leader

# For the server's side of a connection. tcp_user_timeout, in ms, is for a client that vanished before it acknowledged
# what was sent to it: no keepalive is sent then, and Linux would retransmit for a quarter of an hour.
KEEPALIVE = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}

# After so long without an answer a pooled connection counts as lost. It must be less than the lock_timeout, since the
# transaction may hold locks on rows. No timeout of Postgres can take its part: after the message by which asyncpg
# prepares a statement, the session counts as active, and not as idle in a transaction, until the next message comes.
LOST_SECONDS = 8
_KEEPALIVE_IDLE, _KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT = 4, 2, 2
POOL_KEEPALIVE = {
    "tcp_keepalives_idle": str(_KEEPALIVE_IDLE),
    "tcp_keepalives_interval": str(_KEEPALIVE_INTERVAL),
    "tcp_keepalives_count": str(_KEEPALIVE_COUNT),
    "tcp_user_timeout": str(LOST_SECONDS * 1000),
}


class SessionConnection(Connection):
    """Notes whether Postgres has sent a warning since `warned` was last set to False."""

    __slots__ = ("warned",)
    warned: bool


async def connect(url: str, *, name: str, leader: bool = True, **server_settings: str) -> asyncpg.Connection:
    """A connection outside the pools: for LISTEN, for COPY, for locks that a session holds.

    To the leader among the hosts of the address, or, for a read, to the first that answers. Raises ConnectionError if
    none can be used, and asyncpg.PostgresError if the server refuses."""
    own = {"application_name": name, "timezone": "UTC", **KEEPALIVE, **server_settings}
    with as_connection_error():
        return await (open_leader if leader else open_any)(parse(url), server_settings=own)


async def connect_for_sessions(
    url: str, *, record_class: type[asyncpg.Record], leader: bool = True, **arguments: Any
) -> SessionConnection:
    """A connection for the sessions of db/sessions.py, with further arguments of asyncpg. Raises what `connect` raises.

    Values of type jsonb are Python's own types; what is a text already, is JSON already."""
    with as_connection_error():
        connection: SessionConnection = await (open_leader if leader else open_any)(
            parse(url), record_class=record_class, connection_class=SessionConnection, **arguments
        )
        connection.warned = False
        connection.add_log_listener(_note_warning)
        detect_silence(connection)
        # binary, since asyncpg takes no composite type with a part that is sent as text
        await connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=_jsonb, decoder=_from_jsonb, format="binary"
        )
        return connection


def _note_warning(connection: SessionConnection, message: Any) -> None:
    if is_warning(message):
        connection.warned = True


_JSONB_VERSION = b"\x01"  # the first byte of a value (jsonb_recv in the server's jsonb.c)


def _jsonb(value: object) -> bytes:
    return _JSONB_VERSION + (value.encode() if isinstance(value, str) else msgspec.json.encode(value))


def _from_jsonb(value: bytes) -> Any:
    return msgspec.json.decode(memoryview(value)[1:])


@contextmanager
def as_connection_error(*more: type[Exception]) -> Iterator[None]:
    """Raise ConnectionError when no server can be reached, so that a missing socket is not taken for a missing file.

    `more` are errors that mean the same where this is used."""
    try:
        yield
    except ConnectionError:
        raise
    except (*CONNECTION_ERRORS, *more) as exc:
        # a TimeoutError has no text
        raise ConnectionError(f"the database cannot be reached: {str(exc) or 'no answer in time'}") from exc


def detect_silence(connection: asyncpg.Connection) -> None:
    """Set keepalives on our side of a new connection: a request to a server that vanished fails after LOST_SECONDS.

    Otherwise it would wait for the whole command_timeout. asyncpg has no setting for them and does not give out its
    socket. An option that the operating system does not have is left out."""
    tcp = connection._transport.get_extra_info("socket")
    if tcp.family == socket.AF_UNIX:
        return
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", _KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", LOST_SECONDS * 1000),
    ):
        if hasattr(socket, option):
            tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


async def wait_and_tell(url: str, tell: Callable[[BaseException], object], *, seconds: float) -> None:
    """`wait_until_up`, which calls `tell` with the first error as soon as it is certain that there is something to wait
    for."""
    try:
        await wait_until_up(url, seconds=0)
    except DATABASE_ERRORS as exc:
        if not is_unavailable(exc):
            raise
        tell(exc)
        await wait_until_up(url, seconds=seconds)


async def wait_until_up(url: str, *, seconds: float) -> None:
    """Return when the server takes connections; raises the last error after `seconds`, and at once a refusal that time
    does not change, such as a wrong password."""
    pauses = Backoff(0.1, 2.0)
    async with asyncio.timeout(seconds + 5):
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                connection = await connect(url, name="erp start")
            except DATABASE_ERRORS as exc:
                pause = pauses.next()
                if not is_unavailable(exc) or asyncio.get_running_loop().time() + pause > deadline:
                    raise
                await asyncio.sleep(pause)
            else:
                await connection.close()
                return
