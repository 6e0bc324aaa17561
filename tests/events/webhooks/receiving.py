"""A receiver of webhooks: a small HTTP/1.1 server that keeps what it gets, and answers as a test tells it."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Received(NamedTuple):
    """One request. `raw` is the body as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def position(self) -> int:
        position: int = self.body["position"]
        return position

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Reply(NamedTuple):
    status: int = 204
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


Answer = Callable[[Received], Reply | Awaitable[Reply]]


class Receiver:
    """`answer` decides about each request; what was received is in `requests`, in order."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port, self.scheme = port, scheme
        self.requests: list[Received] = []
        self.connections = 0
        self.answer: Answer = lambda _request: Reply()

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def positions(self) -> list[int]:
        return [request.position for request in self.requests]


@contextlib.asynccontextmanager
async def receiving(context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver: Receiver
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await _serve_one(receiver, reader, writer)
        finally:
            await hang_up(writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    receiver = Receiver(server.sockets[0].getsockname()[1], "https" if context else "http")
    try:
        yield receiver
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close at once, without waiting for the other side."""
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _serve_one(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    request = Received(head[0].split(" ")[1], headers, raw)
    receiver.requests.append(request)
    reply = receiver.answer(request)
    if not isinstance(reply, Reply):
        reply = await reply
    lines = [f"HTTP/1.1 {reply.status} Answer", *(f"{name}: {value}" for name, value in reply.headers.items())]
    writer.write("\r\n".join([*lines, f"Content-Length: {len(reply.body)}", "", ""]).encode() + reply.body)
    await writer.drain()
