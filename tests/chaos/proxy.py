"""The network between one process and Postgres, and its faults: over Unix sockets, chunk by chunk."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

PORT_FILE = ".s.PGSQL.5432"
Sender = Literal["client", "server"]


class Link:
    """One connection that can be stopped."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.flows = asyncio.Event()
        self.flows.set()
        self.passed: set[bytes] = set()
        self._both = (client, server)

    def close(self) -> None:
        for writer in self._both:
            writer.transport.abort()


class Proxy:
    """A proxy in front of Postgres. `directory` is the database host of a process that connects through it."""

    def __init__(self, server: Path, directory: Path) -> None:
        self.directory = directory
        self.delay = 0.0
        self.refusing = False
        self._server = server
        self._links: set[Link] = set()
        self._new_flow = True
        self._losing: tuple[Sender, bytes, bytes, asyncio.Event] | None = None

    def url(self, url: str) -> str:
        """The same address, through the proxy."""
        return url.partition("?")[0] + f"?host={quote(str(self.directory))}&port=5432"

    def hang(self, *, new: bool = True) -> None:
        """No byte passes and nothing is closed. Without `new`, only the present connections hang."""
        self._new_flow = not new
        for link in self._links:
            link.flows.clear()

    def cut(self) -> None:
        """Closes every connection and accepts no new one."""
        self.refusing = True
        for link in list(self._links):
            link.close()

    def heal(self) -> None:
        """Delivers what was held back."""
        self.refusing, self._new_flow = False, True
        for link in self._links:
            link.flows.set()

    def lose(self, sender: Sender, words: bytes, *, after: bytes = b"") -> asyncio.Event:
        """The next message of `sender` with these words does not arrive, and its connection ends; set when done.

        Only on a connection on which the words `after` have passed, in whichever direction."""
        lost = asyncio.Event()
        self._losing = (sender, words, after, lost)
        return lost

    def _is_lost(self, link: Link, sender: Sender, chunk: bytes) -> bool:
        if self._losing is None:
            return False
        by, words, after, lost = self._losing
        if sender == by and words in chunk and (not after or after in link.passed):
            lost.set()
            self._losing = None
            return True
        if after and after in chunk:
            link.passed.add(after)
        return False

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.refusing:
            to_client.transport.abort()
            return
        server, to_server = await asyncio.open_unix_connection(self._server / PORT_FILE)
        link = Link(to_client, to_server)
        if not self._new_flow:
            link.flows.clear()
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(link, "client", client, to_server))
                group.create_task(self._pass(link, "server", server, to_client))
        finally:
            self._links.discard(link)
            link.close()

    async def _pass(
        self, link: Link, sender: Sender, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65536):
                await link.flows.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self._is_lost(link, sender, chunk):
                    break
                target.write(chunk)
                await target.drain()
        # One side has closed, so the other is closed too; but not while the network hangs, when nobody can notice
        await link.flows.wait()
        link.close()


@contextlib.asynccontextmanager
async def running(server: Path) -> AsyncIterator[Proxy]:
    # a directory in /tmp, since the path of a socket has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="erp-proxy-") as directory:
        proxy = Proxy(server, Path(directory))
        listening = await asyncio.start_unix_server(proxy.serve, proxy.directory / PORT_FILE)
        try:
            yield proxy
        finally:
            listening.close()
            proxy.heal()
            proxy.cut()
