"""A transport that sends the head and the body of a short answer in one system call instead of two."""

import asyncio
from typing import Any

_LARGE = 64 * 1024  # bytes; as much is sent at once, so that a long answer does not gather in memory


class JoinedWrites:
    """Everything that is written in one turn of the event loop is sent at its end. Whatever else is asked of the
    transport comes after what was written before."""

    __slots__ = ("_loop", "_pieces", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._send)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _LARGE:
            self._send()

    def abort(self) -> None:
        self._pieces.clear()
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        self._send()
        return getattr(self._transport, name)

    def _send(self) -> None:
        if self._pieces:
            data, self._size = b"".join(self._pieces), 0
            self._pieces.clear()
            self._transport.write(data)
