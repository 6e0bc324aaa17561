"""The child processes of `erp up`: kept running in the foreground, stopped together.

Each child leads a process group of its own, so that Ctrl-C in a terminal reaches us alone and we decide the order. Our
death, be it by SIGKILL, kills the children: on Linux the kernel does it (see `processes`). Elsewhere this module, run as a
program, stands between us and each child and looks twice a second whether we are still there.
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
from typing import NamedTuple

from erp_service.processes import dies_with_us, signalled_when_parent_dies

RESTARTS_A_MINUTE = 5
FIRST_PAUSE = 0.5  # seconds before a restart; doubles with each death within a minute
TENDED_EVERY = 1.0  # seconds


class Command(NamedTuple):
    """A process to keep running: what to call it in messages, and its arguments."""

    name: str
    arguments: Sequence[str]


class _Orders:
    """What the signals ask for: to stop in order, then to end now."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.now = asyncio.Event()

    def obey(self) -> None:
        (self.now if self.stop.is_set() else self.stop).set()


def run(
    commands: Sequence[Command],
    environment: Mapping[str, str],
    *,
    grace: float,
    say: Callable[[str], None],
    tend: Callable[[], object] | None = None,
) -> int:
    """Run the commands until SIGINT, SIGTERM or SIGHUP; call it from the main thread.

    The signal is passed on as SIGTERM; what still runs after `grace` seconds, or at a second signal, is killed. A command
    that ends by itself is started again, unless it has ended more than five times within a minute: then all are stopped.
    `tend` is called every second, in this thread, and an exception of its stops everything as well.
    Returns 0 if everything ended in order, else 1.
    """
    return asyncio.run(_run(commands, environment, grace, say, tend))


async def _run(
    commands: Sequence[Command],
    environment: Mapping[str, str],
    grace: float,
    say: Callable[[str], None],
    tend: Callable[[], object] | None,
) -> int:
    orders = _Orders()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, orders.obey)
    tasks = [asyncio.create_task(_keep(command, environment, orders, grace, say)) for command in commands]
    if tend is not None:
        tasks.append(asyncio.create_task(_tend(tend, orders)))
    # Whoever is first to end, by order or by failure, ends it for all.
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    orders.stop.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, BaseException):
            say(f"stopped by an error: {outcome}")
    return 0 if all(outcome is True for outcome in ended) else 1


async def _keep(
    command: Command, environment: Mapping[str, str], orders: _Orders, grace: float, say: Callable[[str], None]
) -> bool:
    deaths: deque[float] = deque(maxlen=RESTARTS_A_MINUTE + 1)
    while not orders.stop.is_set():
        process = await _start(command, environment)
        await _first(process.wait(), orders.stop.wait())
        if process.returncode is None:
            return await _end(command, process, orders, grace, say)
        deaths.append(time.monotonic())
        recent = sum(death > deaths[-1] - 60 for death in deaths)
        if recent > RESTARTS_A_MINUTE:
            say(
                f"{command.name} ended {recent} times within a minute, last with status {process.returncode}: giving up"
            )
            return False
        pause = FIRST_PAUSE * 2 ** (recent - 1)
        say(f"{command.name} ended by itself with status {process.returncode}; it is started again in {pause:g} s")
        await _first(asyncio.sleep(pause), orders.stop.wait())
    return True


async def _start(command: Command, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    watched = () if dies_with_us() else (sys.executable, "-m", "erp_service.supervise")
    return await asyncio.create_subprocess_exec(
        *watched,
        *command.arguments,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        process_group=0,
        preexec_fn=signalled_when_parent_dies(signal.SIGKILL),
    )


async def _end(
    command: Command, process: asyncio.subprocess.Process, orders: _Orders, grace: float, say: Callable[[str], None]
) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    await _first(process.wait(), orders.now.wait(), asyncio.sleep(grace))
    if process.returncode is not None:
        return True
    say(
        f"{command.name} is killed, "
        + ("as told" if orders.now.is_set() else f"since it did not end within {grace:g} s")
    )
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    return False


async def _tend(tend: Callable[[], object], orders: _Orders) -> bool:
    while not orders.stop.is_set():
        tend()
        await _first(asyncio.sleep(TENDED_EVERY), orders.stop.wait())
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
    # The group's signals reach the command itself. A handler, since exec would hand on that we ignore them.
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
