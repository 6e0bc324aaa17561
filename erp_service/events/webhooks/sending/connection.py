"""Connections that are checked where they are made: a name is resolved once, its addresses are judged, and one of these
same addresses is connected to. A name that resolves to something else a moment later gains nothing (DNS rebinding)."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpcore

from erp_service.events.webhooks.sending import addresses
from erp_service.events.webhooks.sending.addresses import Address, Network

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""The addresses of a host. Raises OSError if there are none."""

MOST_ADDRESSES = 3
"""Of one name, that are tried one after the other, within the time that a request has."""
CONNECT_SECONDS = 4.0


class AddressRefused(Exception):
    """The host has an address that nothing may be sent to."""


class Resolver:
    """Looks names up in threads of its own: a name server that does not answer keeps a thread for many seconds, and
    those of the event loop also read files."""

    def __init__(self, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="webhook-names")

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._threads, _look_up, host, port)
        return [address for row in rows if (address := addresses.parse(str(row[4][0]))) is not None]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[tuple[object, object, object, object, tuple[object, ...]]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """The network as a request for a webhook sees it. With `within`, only the networks that the operator allows are
    there, as for requests that are not encrypted."""

    def __init__(self, resolve: Resolve, allowed: Sequence[Network], *, within: bool) -> None:
        self._resolve, self._allowed, self._within = resolve, allowed, within
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises AddressRefused, OSError if the name has no address, and what httpcore raises."""
        literal = addresses.parse(host)
        found = list(dict.fromkeys(await self._resolve(host, port) if literal is None else [literal]))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        # all of them, also those that are not tried: a name of both kinds is no mistake of its owner
        if not all(map(self._may_reach, found)):
            raise AddressRefused
        seconds = CONNECT_SECONDS if timeout is None else min(timeout, CONNECT_SECONDS)
        *first, last = found[:MOST_ADDRESSES]
        for address in first:
            try:
                return await self._network.connect_tcp(str(address), port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(last), port, seconds, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises AddressRefused: no webhook leads to a socket of this host."""
        raise AddressRefused

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _may_reach(self, address: Address) -> bool:
        if self._within:
            return addresses.is_within(address, self._allowed)
        return addresses.may_reach(address, self._allowed)
