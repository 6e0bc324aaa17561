"""Requests from wrk, in one thread over some connections: it takes less of the machine than what it measures."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import msgspec

from tests.bench.measured import cpu_of, cpu_of_server

SCRIPT = Path(__file__).with_name("load.lua")
CONNECTIONS = 8


class NotMeasured(Exception):
    """A figure that must not be shown: an answer was wrong, or something that it needs is missing."""


class Call(NamedTuple):
    method: str
    path: str
    body: object = None

    def line(self) -> str:
        body = "" if self.body is None else msgspec.json.encode(self.body).decode()
        return f"{self.method}\t{self.path}\t{body}\n"


class Work(NamedTuple):
    """The calls are sent in turn, over so many connections. `keyed`: each with an Idempotency-Key of its own, unique
    across runs; `once`: each call once at most; `pause`: milliseconds before the next on the same connection.
    `least_seconds`: slow ones need longer, since what is not answered at the end is not counted."""

    calls: Sequence[Call]
    connections: int = CONNECTIONS
    keyed: bool = False
    once: bool = False
    pause: int = 0
    least_seconds: float = 1.0


class Target(NamedTuple):
    """A server under load; `processes` are those whose CPU time counts as its own."""

    way: str
    url: str
    processes: tuple[int, ...]


class Load(NamedTuple):
    """One round. Times are in milliseconds, as wrk saw them; CPU times are milliseconds for each request, of the
    target's processes and of all of Postgres."""

    requests: int
    seconds: float
    p50: float
    p99: float
    cpu: float
    server_cpu: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class _Summary(msgspec.Struct):
    requests: int
    seconds: float
    refused: int
    broken: int
    p50: float
    p99: float


class Caller(NamedTuple):
    """Who asks: an access token, and the number of the Postgres process whose CPU time is counted."""

    token: str
    postmaster: int

    async def load(
        self, target: Target, work: Work, seconds: float, *, until: asyncio.Task[None] | None = None
    ) -> Load:
        """For so many seconds, or until the task ends if that is earlier.

        Raises NotMeasured if any answer was no success or any connection broke."""
        if not work.calls:
            raise NotMeasured("there is nothing to send")
        with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
            file.writelines(call.line() for call in work.calls)
            file.flush()
            arguments = [file.name, f"{uuid4()}-" if work.keyed else "-", "once" if work.once else "-", str(work.pause)]
            cpu, server = self._cpu(target)
            summary = await self._wrk(target, max(seconds, work.least_seconds), work.connections, arguments, until)
        cpu_after, server_after = self._cpu(target)
        if summary.refused or summary.broken or not summary.requests:
            raise NotMeasured(
                f"{work.calls[0].method} {work.calls[0].path}: of {summary.requests} answers {summary.refused} were"
                f" no success, and {summary.broken} connections broke"
            )
        each = 1000 / summary.requests
        return Load(
            summary.requests,
            summary.seconds,
            summary.p50,
            summary.p99,
            (cpu_after - cpu) * each,
            (server_after - server) * each,
        )

    def _cpu(self, target: Target) -> tuple[float, float]:
        return sum(cpu_of(pid) for pid in target.processes), cpu_of_server(self.postmaster)

    async def _wrk(
        self, target: Target, seconds: float, connections: int, arguments: list[str], until: asyncio.Task[None] | None
    ) -> _Summary:
        options = ["--threads", "1", "--connections", str(connections), "--timeout", "30s"]
        options += ["--duration", f"{max(1, round(seconds))}s", "--script", str(SCRIPT)]
        if self.token:
            options += ["--header", f"Authorization: Bearer {self.token}"]
        process = await asyncio.create_subprocess_exec(
            wrk(),
            *options,
            target.url,
            "--",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        answer = asyncio.create_task(process.communicate())
        if until is not None:
            await asyncio.wait({answer, until}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                # it then ends as it does when its time is over
                process.send_signal(signal.SIGINT)
        output, errors = await answer
        lines = output.decode().splitlines()
        if process.returncode or not lines:
            raise NotMeasured(f"wrk ended with {process.returncode}: {errors.decode().strip()}")
        return msgspec.json.decode(lines[-1], type=_Summary)


def wrk() -> str:
    """Raises NotMeasured if it is not installed."""
    if (program := shutil.which("wrk")) is None:
        raise NotMeasured("wrk is not installed; ops/bench installs Debian's")
    return program
