"""Argon2id on threads of its own, so that log-ins freeze neither loop nor memory."""

import asyncio
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from erp_service import errors

T = TypeVar("T")

# OWASP Password Storage Cheat Sheet: 19 MiB, two passes; about 30 ms. One lane, since our threads share the cores.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
# Of "the password of nobody, checked where no user is found". Written down, since to hash it costs every process of
# every command as much as a sign-in; a test fails where it does not cost what the parameters above do.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$eWuK4NG1sX/amOClJcMDLA$ysXeiy+QJFXIni6NRZWwrAmsYNQQyeVZ4LbHlrUt19Q"
_NICE = 10
_THREADS = max(1, min(4, (os.cpu_count() or 1) - 1))
_MOST_IN_LINE = 64  # about half a second of work with four threads, and 76 MiB at any time


def hashed(password: str) -> str:
    """For commands; blocks for about 30 ms."""
    return _HASHER.hash(_bytes(password))


def _verified(password_hash: str | None, password: str) -> bool:
    try:
        _HASHER.verify(_NOBODY if password_hash is None else password_hash, _bytes(password))
    except InvalidHashError:
        # a user whose password was never set must cost what all others cost
        return _verified(None, password)
    except VerificationError:
        return False
    return password_hash is not None


def _bytes(password: str) -> bytes:
    # the same key on two keyboards can give two spellings of one letter (RFC 8265, 4.2)
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")


class HashSlot:
    """A slot in the queue before the hashing threads."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    async def hash(self, password: str) -> str:
        return await self._run(hashed, password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Takes as long for None, the hash of an unknown user, as for any other."""
        return await self._run(_verified, password_hash, password)

    def outdated(self, password_hash: str) -> bool:
        """It was made with other parameters than today's."""
        return _HASHER.check_needs_rehash(password_hash)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _give_way() -> None:
    """The thread that calls it gets a core when nothing else of the host wants it: a flood of log-ins would else take
    half of two cores from everybody's requests."""
    if sys.platform == "linux":
        # there a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


class Passwords:
    """The hashing threads of one instance, and the line before them. Who comes when it is full is turned away at once:
    ten thousand log-ins cost neither memory nor database connections, and those in line still get their turn."""

    def __init__(self, *, threads: int = _THREADS, most_in_line: int = _MOST_IN_LINE) -> None:
        self._threads = ThreadPoolExecutor(threads, "argon2", _give_way)
        self._most = most_in_line
        self.in_line = 0

    @contextmanager
    def slot(self) -> Iterator[HashSlot]:
        """Take it before the first database connection; raises errors.Unavailable when the queue is full."""
        if self.in_line >= self._most:
            raise errors.Unavailable("Too many are signing in at this moment.", headers={"Retry-After": "1"})
        self.in_line += 1
        try:
            yield HashSlot(self._threads)
        finally:
            self.in_line -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
