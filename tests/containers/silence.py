"""A network that goes silent: what is sent to an address, and from it, is lost on the way, and nobody is told."""

import contextlib
from collections.abc import AsyncIterator, Iterable

from tests.containers.stack import Stack


async def address(stack: Stack, container: str, network: str) -> str:
    """Its address; empty if it does not run."""
    networks = (await stack.inspect(container))["NetworkSettings"]["Networks"]
    return str(networks[f"{stack.project}_{network}"]["IPAddress"])


async def addresses(stack: Stack, container: str) -> list[str]:
    """In all networks; none if it does not run."""
    networks = (await stack.inspect(container))["NetworkSettings"]["Networks"].values()
    return [str(network["IPAddress"]) for network in networks if network["IPAddress"]]


async def name_servers(stack: Stack, container: str) -> list[str]:
    """This machine, in each of its networks."""
    told = await stack.inside(container, "cat", "/etc/resolv.conf")
    return [line.split()[1] for line in told.splitlines() if line.startswith("nameserver")]


@contextlib.asynccontextmanager
async def silent(stack: Stack, *addresses: str) -> AsyncIterator[None]:
    """As if a switch had lost its power: no interface goes down, nothing is closed, no packet comes."""
    lost = "; ".join(f"ip saddr {one} drop; ip daddr {one} drop" for one in addresses)
    async with dropping(stack, lost):
        yield


@contextlib.asynccontextmanager
async def parted(stack: Stack, *minority: str, known: Iterable[str]) -> AsyncIterator[None]:
    """The same between these addresses and all others. They reach each other, and all reach those of `known`."""
    few, everybody = f"{{ {', '.join(minority)} }}", f"{{ {', '.join(known)} }}"
    allowed = f"ip saddr {everybody} accept; ip daddr {everybody} accept"
    lost = f"ip saddr {few} ip daddr != {few} drop; ip saddr != {few} ip daddr {few} drop"
    async with dropping(stack, f"{allowed}; {lost}"):
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
