"""Connections to Postgres: their addresses, how each side notices that the other is gone, the wait for a server."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
from sqlalchemy.engine import make_url

from erp_service.db.backoff import Backoff
from erp_service.db.outages import CONNECTION_ERRORS, DATABASE_ERRORS, is_unavailable

# The server's side of a connection. The last, in ms, is for a client that vanished before it acknowledged what
# was sent to it: no keepalive asks then, and Linux would go on sending for a quarter of an hour.
KEEPALIVE = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}

# Where transactions hold rows it must be less than the lock_timeout, and no other limit would do: asyncpg prepares a
# statement by a message after which Postgres counts as busy, not as idle in a transaction, until the next one comes.
LOST_SECONDS = 8
_QUIET_SECONDS, _ASK_AGAIN_SECONDS, _ASKED = 4, 2, 2
POOL_KEEPALIVE = {
    "tcp_keepalives_idle": str(_QUIET_SECONDS),
    "tcp_keepalives_interval": str(_ASK_AGAIN_SECONDS),
    "tcp_keepalives_count": str(_ASKED),
    "tcp_user_timeout": str(LOST_SECONDS * 1000),
}


def engine_url(url: str) -> str:
    """SQLAlchemy's spelling of a postgresql:// address: the same with the driver's name in it."""
    return make_url(url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def asyncpg_arguments(url: str) -> dict[str, Any]:
    """What `asyncpg.connect` takes for a postgresql:// address (libpq's `?host=/socket/dir` included)."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = query.pop("host", None) or parts.hostname
    arguments = {
        "host": unquote(host) if host else None,
        "port": int(query.pop("port", parts.port or 5432)),
        "user": unquote(parts.username) if parts.username else query.pop("user", None),
        "password": unquote(parts.password) if parts.password else query.pop("password", None),
        "database": unquote(parts.path.lstrip("/")) or None,
        "ssl": query.pop("sslmode", None),
    }
    return {name: value for name, value in arguments.items() if value is not None}


async def connect(url: str, *, name: str, **server_settings: str) -> asyncpg.Connection:
    """A connection outside the pools: for LISTEN, for COPY, for locks that a session holds.

    Raises ConnectionError if the server cannot be reached, and asyncpg.PostgresError if it refuses."""
    with as_connection_error():
        return await asyncpg.connect(
            **asyncpg_arguments(url),
            timeout=5,
            server_settings={"application_name": name, "timezone": "UTC", **KEEPALIVE, **server_settings},
        )


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


def detect_silence(connection: Any, _record: Any) -> None:
    """Whoever waits for an answer that cannot come is told after LOST_SECONDS, and not at the end of command_timeout.

    asyncpg sets none of these, nor hands out its socket. Those that the system does not know it goes without."""
    line = connection.driver_connection._transport.get_extra_info("socket")
    if line.family == socket.AF_UNIX:
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", _QUIET_SECONDS),
        ("TCP_KEEPINTVL", _ASK_AGAIN_SECONDS),
        ("TCP_KEEPCNT", _ASKED),
        ("TCP_USER_TIMEOUT", LOST_SECONDS * 1000),
    ):
        if hasattr(socket, option):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


async def wait_until_up(url: str, *, seconds: float) -> None:
    """Return when the server takes connections; raises the last error after `seconds`."""
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
