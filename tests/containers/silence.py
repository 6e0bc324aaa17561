"""A network that goes silent: what is sent to an address, and from it, is lost on the way, and nobody is told."""

import contextlib
from collections.abc import AsyncIterator

from tests.containers.stack import PROJECT, Stack

TABLE = f"{PROJECT}_silence"


async def address(stack: Stack, container: str, network: str) -> str:
    networks = (await stack.inspect(container))["NetworkSettings"]["Networks"]
    return str(networks[f"{PROJECT}_{network}"]["IPAddress"])


@contextlib.asynccontextmanager
async def silent(stack: Stack, *addresses: str) -> AsyncIterator[None]:
    """As if a switch had lost its power: no interface goes down, nothing is closed, no packet comes.

    In the bridge between the containers, and not inside of one: there a packet that is dropped on its way out is an
    error to whoever sends it. What comes from this machine itself passes, its answers do not."""
    lost = "; ".join(f"ip saddr {one} drop; ip daddr {one} drop" for one in addresses)
    chain = f"chain lost {{ type filter hook prerouting priority -300; {lost}; }}"
    await stack.run("nft", "--file", "-", stdin=f"table bridge {TABLE} {{ {chain}; }}\n".encode())
    try:
        yield
    finally:
        await stack.run("nft", "delete", "table", "bridge", TABLE)
