"""A network that goes silent: what is sent to an address, and from it, is lost on the way, and nobody is told."""

import contextlib
from collections.abc import AsyncIterator

from tests.containers.stack import Stack


async def address(stack: Stack, container: str, network: str) -> str:
    """Its address; empty if it does not run."""
    return str((await _attached(stack, container, network))["IPAddress"])


async def gateway(stack: Stack, container: str, network: str) -> str:
    """This machine in that network, which has its name server."""
    return str((await _attached(stack, container, network))["Gateway"])


async def _attached(stack: Stack, container: str, network: str) -> dict[str, object]:
    networks: dict[str, dict[str, object]] = (await stack.inspect(container))["NetworkSettings"]["Networks"]
    return networks[f"{stack.project}_{network}"]


@contextlib.asynccontextmanager
async def silent(stack: Stack, *addresses: str) -> AsyncIterator[None]:
    """As if a switch had lost its power: no interface goes down, nothing is closed, no packet comes."""
    lost = "; ".join(f"ip saddr {one} drop; ip daddr {one} drop" for one in addresses)
    async with dropping(stack, lost):
        yield


@contextlib.asynccontextmanager
async def parted(stack: Stack, gateway: str, *minority: str) -> AsyncIterator[None]:
    """The same between these addresses and all others. They reach each other, and everybody still reaches the
    network's `gateway`, which has the name server."""
    few = f"{{ {', '.join(minority)} }}"
    known = f"ip saddr {gateway} accept; ip daddr {gateway} accept"
    lost = f"ip saddr {few} ip daddr != {few} drop; ip saddr != {few} ip daddr {few} drop"
    async with dropping(stack, f"{known}; {lost}"):
        yield


@contextlib.asynccontextmanager
async def dropping(stack: Stack, rules: str) -> AsyncIterator[None]:
    """In the bridge between the containers, and not inside of one: there a packet that is dropped on its way out is an
    error to whoever sends it. What comes from this machine itself passes, its answers do not."""
    table = f"{stack.project}_silence"
    chain = f"chain lost {{ type filter hook prerouting priority -300; {rules}; }}"
    await stack.run("nft", "--file", "-", stdin=f"table bridge {table} {{ {chain}; }}\n".encode())
    try:
        yield
    finally:
        await stack.run("nft", "delete", "table", "bridge", table)
