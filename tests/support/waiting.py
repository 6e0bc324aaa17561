"""Waiting for a condition, with a deadline that only a fault reaches."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], *, seconds: float = 20.0) -> T:
    """The first true value that `look` returns. After `seconds` AssertionError, with the last value."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (seen := await look()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s: {seen!r}"
        await asyncio.sleep(0.02)
    return seen


def until(look: Callable[[], object], *, seconds: float = 30.0) -> None:
    """The same for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
