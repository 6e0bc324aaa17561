"""The child processes of `erp up`: kept running in the foreground, stopped together.

Each child leads a process group of its own, so that Ctrl-C in a terminal reaches us alone and we decide the order. Our
death, even by SIGKILL, kills the children: on Linux the kernel sees to it (`child_processes`). Elsewhere this
module, run as a program, stands between us and each child and looks twice a second whether we are still there.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from erp_service.db.backoff import Backoff
from erp_service.standalone.child_processes import dies_with_us, signalled_when_parent_dies

RESTARTS_A_MINUTE = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds before a restart; doubles with each death within a minute
TENDED_EVERY = 1.0  # seconds


class Command(NamedTuple):
    """A process to keep running: what to call it in messages, and its arguments."""

    name: str
    arguments: Sequence[str]


@dataclass(frozen=True)
class _Upkeep:
    environment: Mapping[str, str]
    grace: float
    say: Callable[[str], None]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    end_now: asyncio.Event = field(default_factory=asyncio.Event)

    def signalled(self) -> None:
        (self.end_now if self.stop.is_set() else self.stop).set()


def run(
    commands: Sequence[Command],
    environment: Mapping[str, str],
    *,
    grace: float,
    say: Callable[[str], None],
    tend: Callable[[], object] | None = None,
) -> int:
    """Run the commands until SIGINT, SIGTERM or SIGHUP; call it from the main thread.

    The signal is passed on as SIGTERM; what still runs after `grace` seconds, or at a second signal, is killed. A
    command that ends by itself is started again; at its sixth end within a minute, all are stopped. `tend` is called
    every second in this thread, and an exception of its stops all as well. Returns 0 if all ended in order, else 1.
    """
    return asyncio.run(_run(commands, tend, environment, grace, say))


async def _run(
    commands: Sequence[Command],
    tend: Callable[[], object] | None,
    environment: Mapping[str, str],
    grace: float,
    say: Callable[[str], None],
) -> int:
    upkeep = _Upkeep(environment, grace, say)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, upkeep.signalled)
    tasks = [asyncio.create_task(_keep(command, upkeep)) for command in commands]
    if tend is not None:
        tasks.append(asyncio.create_task(_tend(tend, upkeep)))
    # Whoever is first to end, by order or by failure, ends it for all.
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    upkeep.stop.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for problem in ended:
        if isinstance(problem, BaseException):
            say(f"stopped by an error: {problem}")
    return 0 if all(outcome is True for outcome in ended) else 1


async def _keep(command: Command, upkeep: _Upkeep) -> bool:
    ends: deque[float] = deque(maxlen=RESTARTS_A_MINUTE + 1)
    while not upkeep.stop.is_set():
        process = await _start(command, upkeep.environment)
        await _first(process.wait(), upkeep.stop.wait())
        if process.returncode is None:
            return await _end(command, process, upkeep)
        ends.append(time.monotonic())
        recent = sum(end > ends[-1] - 60 for end in ends)
        what = f"{command.name} ended by itself with status {process.returncode}"
        if recent > RESTARTS_A_MINUTE:
            upkeep.say(f"{what}, for the {recent}th time within a minute: giving up")
            return False
        pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE).after(recent)
        upkeep.say(f"{what}; it is started again in {pause:g} s")
        await _first(asyncio.sleep(pause), upkeep.stop.wait())
    return True


async def _start(command: Command, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    watched = () if dies_with_us() else (sys.executable, "-m", "erp_service.standalone.supervisor")
    return await asyncio.create_subprocess_exec(
        *watched,
        *command.arguments,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        process_group=0,
        preexec_fn=signalled_when_parent_dies(signal.SIGKILL),
    )


async def _end(command: Command, process: asyncio.subprocess.Process, upkeep: _Upkeep) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    await _first(process.wait(), upkeep.end_now.wait(), asyncio.sleep(upkeep.grace))
    if process.returncode is not None:
        return True
    reason = "as told" if upkeep.end_now.is_set() else f"since it did not end within {upkeep.grace:g} s"
    upkeep.say(f"{command.name} is killed, {reason}")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    return False


async def _tend(tend: Callable[[], object], upkeep: _Upkeep) -> bool:
    while not upkeep.stop.is_set():
        tend()
        await _first(asyncio.sleep(TENDED_EVERY), upkeep.stop.wait())
    return True


async def _first(*awaited: Coroutine[object, object, object]) -> None:
    tasks = [asyncio.create_task(one) for one in awaited]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def watch(arguments: Sequence[str]) -> int:
    """Run a command in our own process group, and kill it once our parent is gone; returns its status."""
    parent = os.getppid()
    # The group's signals reach the command as well. A handler, since exec would hand on that we ignore them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with subprocess.Popen(arguments) as child:
        while True:
            try:
                status = child.wait(0.5)
                return status if status >= 0 else 128 - status
            except subprocess.TimeoutExpired:
                if os.getppid() != parent:
                    child.kill()


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1:]))
