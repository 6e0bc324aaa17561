"""Runs the child processes of `erp up` in the foreground: starts them again when they end, and stops them together.

Each child leads its own process group, so Ctrl-C in a terminal reaches only this process, which decides the order. If
this process dies, even by SIGKILL, the children are killed: on Linux by the kernel (`child_processes`), elsewhere by
`parent_watch`.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from erp_service.db.backoff import Backoff
from erp_service.standalone.child_processes import dies_with_us, signalled_when_parent_dies

RESTARTS_A_MINUTE = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
CHECK_EVERY = 1.0


class Command(NamedTuple):
    """A process to keep running: its name in messages, its arguments, and what its environment has of its own."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class _Supervision:
    environment: Mapping[str, str]
    grace: float
    say: Callable[[str], None]
    first_pause: float
    restarts_a_minute: int
    watch_parent: bool
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    kill: asyncio.Event = field(default_factory=asyncio.Event)

    def on_signal(self) -> None:
        (self.kill if self.stop.is_set() else self.stop).set()


def run(
    commands: Sequence[Command],
    environment: Mapping[str, str],
    *,
    grace: float,
    say: Callable[[str], None],
    check: Callable[[], object] | None = None,
    check_every: float = CHECK_EVERY,
    first_pause: float = FIRST_PAUSE,
    restarts_a_minute: int = RESTARTS_A_MINUTE,
    watch_parent: bool | None = None,
) -> int:
    """Run the commands until SIGINT, SIGTERM or SIGHUP. To be called from the main thread.

    The signal is passed on as SIGTERM; what still runs after `grace` seconds, or at a second signal, is killed. A
    command that ends by itself is started again after `first_pause` seconds, which double with each end within a
    minute; if it ends more than `restarts_a_minute` times within a minute, all are stopped. `check` is called every
    `check_every` seconds in this thread; an exception that it raises stops all as well. `watch_parent` puts a process
    between this one and each child that kills the child if this one dies; by default only where the kernel cannot do
    that. Returns 0 if all ended in order, else 1.
    """

    async def supervise() -> int:
        supervision = _Supervision(
            environment=environment,
            grace=grace,
            say=say,
            first_pause=first_pause,
            restarts_a_minute=restarts_a_minute,
            watch_parent=not dies_with_us() if watch_parent is None else watch_parent,
        )
        duties = [_keep_running(command, supervision) for command in commands]
        if check is not None:
            duties.append(_check_repeatedly(check, check_every, supervision))
        return await _until_stopped(duties, supervision)

    return asyncio.run(supervise())


async def _until_stopped(duties: Sequence[Coroutine[None, None, bool]], supervision: _Supervision) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, supervision.on_signal)
    tasks = [asyncio.create_task(duty) for duty in duties]
    # The first one that ends, on request or by a failure, ends the others.
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    supervision.stop.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            supervision.say(f"stopped by an error: {outcome}")
    return 0 if all(outcome is True for outcome in outcomes) else 1


async def _keep_running(command: Command, supervision: _Supervision) -> bool:
    limit = supervision.restarts_a_minute
    ends: deque[float] = deque(maxlen=limit + 1)
    while not supervision.stop.is_set():
        process = await _start(command, supervision)
        await _first(process.wait(), supervision.stop.wait())
        if process.returncode is None:
            return await _end(command, process, supervision)
        ends.append(time.monotonic())
        recent = sum(end > ends[-1] - 60 for end in ends)
        event = f"{command.name} ended by itself with status {process.returncode}"
        if recent > limit:
            supervision.say(f"{event}, for the {recent}th time within a minute: giving up")
            return False
        pause = Backoff(supervision.first_pause, LONGEST_PAUSE).after(recent)
        supervision.say(f"{event}; it is started again in {pause:g} s")
        await _first(asyncio.sleep(pause), supervision.stop.wait())
    return True


async def _start(command: Command, supervision: _Supervision) -> asyncio.subprocess.Process:
    watch = (sys.executable, "-m", "erp_service.standalone.parent_watch") if supervision.watch_parent else ()
    return await asyncio.create_subprocess_exec(
        *watch,
        *command.arguments,
        env={**supervision.environment, **command.environment},
        stdin=asyncio.subprocess.DEVNULL,
        process_group=0,
        preexec_fn=None if supervision.watch_parent else signalled_when_parent_dies(signal.SIGKILL),
    )


async def _end(command: Command, process: asyncio.subprocess.Process, supervision: _Supervision) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    await _first(process.wait(), supervision.kill.wait(), asyncio.sleep(supervision.grace))
    if process.returncode is not None:
        return True
    requested = supervision.kill.is_set()
    reason = "as requested" if requested else f"since it did not end within {supervision.grace:g} s"
    supervision.say(f"{command.name} is killed, {reason}")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    return False


async def _check_repeatedly(check: Callable[[], object], every: float, supervision: _Supervision) -> bool:
    while not supervision.stop.is_set():
        check()
        await _first(asyncio.sleep(every), supervision.stop.wait())
    return True


async def _first(*coroutines: Coroutine[object, object, object]) -> None:
    """Wait until the first of them ends, and cancel the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
