"""The server's protocol on a socket of the test's own process, and clients that write bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NamedTuple

from uvicorn.server import ServerState

from erp_service.processes.http_protocol import LimitedConfig, LimitedProtocol, Limits


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Also if the server has closed the connection."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split(" ")[1]), headers, body)

    async def is_closed(self) -> bool:
        """Waits for the end of the connection; whether nothing more came before it."""
        async with asyncio.timeout(20):
            try:
                return not await self.reader.read()
            except ConnectionError:
                return True


class Served(NamedTuple):
    port: int
    state: ServerState

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20))
        try:
            yield client
        finally:
            client.writer.transport.abort()


@contextlib.asynccontextmanager
async def serving(app: Any, limits: Limits) -> AsyncIterator[Served]:
    config = LimitedConfig(app, limits, log_config=None, access_log=False, server_header=False, lifespan="off")
    config.load()
    state = ServerState()
    protocol = partial(LimitedProtocol, config, state, {})
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield Served(server.sockets[0].getsockname()[1], state)
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
