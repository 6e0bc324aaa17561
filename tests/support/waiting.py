"""Waiting for a condition."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], *, seconds: float = 20.0) -> T:
    """What `look` gives as soon as that is true; AssertionError with the last of it after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (seen := await look()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s: {seen!r}"
        await asyncio.sleep(0.02)
    return seen
