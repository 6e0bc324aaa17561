"""The network between a client and an instance, and its faults: cut, slow, lossy."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


class Wire:
    """Forwards connections to the addresses in turn."""

    def __init__(self, targets: list[str]) -> None:
        self.url = ""
        self.cuts: deque[int] = deque()
        """Of each connection to come: after so many bytes of answers it is closed, without a good-bye."""
        self.answers_lost = 0
        """So many requests to come arrive, and their answers do not."""
        self.damage: tuple[bytes, bytes] | None = None
        """What is in an answer instead of what: of the same length, once a piece."""
        self.pause = 0.0
        """Seconds before each piece of an answer."""
        self.open = asyncio.Event()
        """No answer passes while it is cleared."""
        self.open.set()
        self.asked = b""
        self._targets = deque(urlsplit(target) for target in targets)

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        target = self._targets[0]
        self._targets.rotate(-1)
        server, to_server = await asyncio.open_connection(target.hostname, target.port)
        left = self.cuts.popleft() if self.cuts else None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask(client, to_server))
                group.create_task(self._answer(server, to_client, left))
        except* OSError:
            pass
        finally:
            to_client.transport.abort()
            to_server.transport.abort()

    async def _ask(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while data := await client.read(65536):
            self.asked += data
            to_server.write(data)
            await to_server.drain()
        to_server.close()

    async def _answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter, left: int | None) -> None:
        while data := await server.read(65536):
            if self.answers_lost:
                self.answers_lost -= 1
                break
            if self.damage is not None:
                data = data.replace(*self.damage, 1)
            await self.open.wait()
            await asyncio.sleep(self.pause)
            to_client.write(data[:left])
            await to_client.drain()
            if left is not None and (left := left - len(data)) <= 0:
                break
        # flush what was written before the connection ends
        to_client.close()


@contextlib.asynccontextmanager
async def wire(*targets: str) -> AsyncIterator[Wire]:
    between = Wire(list(targets))
    serving = await asyncio.start_server(between.serve, "127.0.0.1", 0)
    between.url = f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    try:
        yield between
    finally:
        serving.close()
