"""The supervisor of `erp up`, with real processes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
SUPERVISOR = """
import os, sys
from erp_service.standalone import supervisor
mark, grace, check, options, *codes = sys.argv[1:]
start = [sys.executable, "-c"]
commands = [
    supervisor.Command(f"child {n}", [code] if code.startswith("/") else [*start, code]) for n, code in enumerate(codes)
]
sys.exit(
    supervisor.run(
        commands,
        {**os.environ, "MARK": mark},
        grace=float(grace),
        say=lambda message: print("say", message, flush=True),
        check=lambda: exec(check),
        first_pause=0.02,
        **eval(options),
    )
)
"""
# One write for the whole line, so that lines of two processes do not mix. Not `print`, which is not reentrant: a signal
# handler may interrupt another one.
SAYS = """
import os, signal, sys, time
def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())
"""
# Prints its process id and runs until a signal comes.
WAITS = f"{SAYS}say('up', os.getpid(), os.environ['MARK']); time.sleep(600)"
DEAF = f"{SAYS}signal.signal(signal.SIGTERM, lambda *_: say('deaf')); {WAITS}"
ORDERLY = (
    f"{SAYS}signal.signal(signal.SIGTERM, lambda *_: (say('bye'), sys.exit(0)))\n"
    "signal.signal(signal.SIGINT, lambda *_: say('interrupted'))\n"
    "say('up', os.getpid())\nwhile True: signal.pause()"
)


@contextlib.contextmanager
def supervisor(*codes: str, grace: float = 20, check: str = "", **options: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, "handed on", str(grace), check, repr(options), *codes],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        # or a read of a line from it would never return
        watch = threading.Timer(120, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()


def heard(process: subprocess.Popen[str], word: str) -> str:
    """The rest of the next line that begins with this word; lines before it are skipped."""
    assert process.stdout is not None
    for line in process.stdout:
        first, _, rest = line.strip().partition(" ")
        if first == word:
            return rest
    pytest.fail(f"ended before it said {word!r}")


def alive(number: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_foreground_group_stops_children_by_sigterm_only(number: signal.Signals) -> None:
    with supervisor(ORDERLY, ORDERLY) as process:
        children = [int(heard(process, "up")) for _ in range(2)]
        os.killpg(process.pid, number)
        assert process.stdout is not None
        assert process.stdout.read().split() == ["bye", "bye"]
        assert process.wait(30) == 0
        assert not any(alive(child) for child in children)


def test_environment_is_the_given_one() -> None:
    with supervisor(WAITS) as process:
        assert heard(process, "up").endswith(" handed on")


def test_child_that_outstays_its_grace_is_killed_and_told_of() -> None:
    with supervisor(DEAF, grace=0.3) as process:
        child = int(heard(process, "up").split()[0])
        process.terminate()
        assert heard(process, "say") == "child 0 is killed, since it did not end within 0.3 s"
        assert process.wait(30) == 1
        assert not alive(child)


def test_second_signal_ends_it_now() -> None:
    with supervisor(DEAF, grace=600) as process:
        child = int(heard(process, "up").split()[0])
        process.terminate()
        heard(process, "deaf")
        process.terminate()
        assert heard(process, "say") == "child 0 is killed, as requested"
        assert process.wait(30) == 1
        assert not alive(child)


def test_child_that_dies_is_started_again_and_its_sibling_left_alone() -> None:
    with supervisor(WAITS, ORDERLY) as process:
        one, other = (heard(process, "up") for _ in range(2))
        mortal, steady = (one, other) if "handed on" in one else (other, one)
        os.kill(int(mortal.split()[0]), signal.SIGKILL)
        assert heard(process, "say") == "child 0 ended by itself with status -9; it is started again in 0.02 s"
        again = heard(process, "up")
        assert again != mortal
        assert "handed on" in again
        assert alive(int(steady))
        process.terminate()
        assert process.wait(30) == 0


def test_child_that_keeps_dying_stops_everything() -> None:
    with supervisor("raise SystemExit(3)", ORDERLY) as process:
        rest = process.communicate(timeout=60)[0]
        assert rest.count("ended by itself with status 3; it is started again") == 5
        assert "for the 6th time within a minute: giving up" in rest
        assert "bye" in rest
        assert process.returncode == 1


def test_command_that_cannot_be_started_stops_everything() -> None:
    with supervisor(ORDERLY, "/no/such/program") as process:
        assert "/no/such/program" in heard(process, "say")
        assert process.wait(30) == 1


def test_failure_of_the_repeated_check_stops_everything() -> None:
    with supervisor(ORDERLY, check="raise OSError('the database is gone')") as process:
        rest = process.communicate(timeout=30)[0]
        assert "say stopped by an error: the database is gone" in rest
        assert process.returncode == 1


@pytest.mark.parametrize("watch_parent", [False, True], ids=["by the kernel", "by watching"])
def test_children_do_not_outlive_a_killed_supervisor(watch_parent: bool) -> None:
    with supervisor(DEAF, watch_parent=watch_parent) as process:
        child = int(heard(process, "up").split()[0])
        process.kill()
        until(lambda: not alive(child))


def test_watched_child_is_stopped_in_order_as_well() -> None:
    with supervisor(ORDERLY, watch_parent=True) as process:
        heard(process, "up")
        process.terminate()
        assert process.communicate(timeout=30)[0].split() == ["bye"]
        assert process.returncode == 0
