"""One stack for all of these tests, which go on from each other in order, and the table that they end with."""

import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

from tests.conftest import eventually
from tests.containers.stack import Stack, timed

PROPERTY = "seen"


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Up and ready, with an owner; what it took to get there is in `stack.up_seconds`."""
    stack = Stack(os.environ["ERP_TEST_IMAGE"], Path(tmp_path_factory.mktemp("stack")))
    await stack.down()
    try:
        async with timed() as took:
            await stack.up()
            await eventually(stack.answers, seconds=120)
        stack.up_seconds = took[0]
        await stack.make_owner()
        yield stack
    finally:
        sys.stderr.write(await stack.logs() if os.environ.get("ERP_TEST_LOGS") else "")
        await stack.down()


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """For a test to say what it saw."""

    def say(what: str) -> None:
        request.node.user_properties.append((PROPERTY, what))

    return say


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    told: list[tuple[str, Any]] = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            if "tests/containers/" in report.nodeid and report.when == "call":
                name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
                said = [value for key, value in report.user_properties if key == PROPERTY]
                told.append((f"{name}: {outcome}, {report.duration:.0f} s", said))
    if told:
        terminalreporter.section("containers")
    for title, said in told:
        terminalreporter.write_line(title)
        for line in said:
            terminalreporter.write_line(f"    {line}")
